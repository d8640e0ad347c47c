"""One task: what is asked, and how the answer is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..json_schema import first_violation, published_validator


class TaskError(ValueError):
    """A row is not a task; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task."""

    id: str
    prompt: str
    answer: str | None = None
    aliases: tuple[str, ...] = ()
    difficulty: float | None = None
    """Known difficulty, larger is harder."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Any, where: str = "task") -> Task:
        """A task from a row of the published schema `task`.

        Raises:
            TaskError: the row does not fit; `where` (a file and line) is named.
        """
        violation = first_violation(published_validator("task"), row)
        if violation is not None:
            raise TaskError(f"{where}: not a task row: {violation}")
        return cls(**{**row, "aliases": tuple(row.get("aliases", ()))})

    def to_row(self) -> dict[str, Any]:
        """The row that `from_row` reads."""
        return {
            "id": self.id,
            "prompt": self.prompt,
            "answer": self.answer,
            "aliases": list(self.aliases),
            "difficulty": self.difficulty,
            "metadata": dict(self.metadata),
        }
