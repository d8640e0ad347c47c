"""Drafted plans: who wrote them, from what, and where they are kept.

FOLDER/plans.jsonl holds one row of the published schema `plan-draft` a line. Drafts are never changed; what reviewers
make of them stands in FOLDER/reviews.jsonl.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...envs.tasks import Task
from .errors import PlanError
from .lines import LineWriter, read_lines
from .steps import are_steps

SCHEMA = "forethought/plan-draft/1"


class DraftKind(StrEnum):
    """Who wrote a plan."""

    SCRIPT = "script"
    EPISODES = "episodes"
    """The policy of a finished run."""
    MODEL = "model"
    HUMAN = "human"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a plan comes from."""

    kind: DraftKind
    source: str
    """The script, the run, the model or the file."""
    author: str
    original: str
    """The text that the plan was read from: a whole turn where a policy wrote it."""
    made: str = field(default_factory=lambda: now())
    """When it was drafted: ISO 8601, UTC."""
    spelling: str | None = None
    """Of the original, where a policy wrote it."""
    env: dict[str, Any] | None = None
    """`{"id": ..., "version": ..., "kwargs": {...}}` of the environment, where there was one."""
    notes: list[str] = field(default_factory=list)
    """What was changed in reading it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDraft:
    """A plan for a task, before anybody reviewed it."""

    id: str
    task: dict[str, Any]
    """The task as a row."""
    messages: list[dict[str, str]]
    """What the policy reads before it plans: `{"role": "system" or "user", "content": ...}`."""
    steps: list[dict[str, Any]]
    provenance: Provenance

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> PlanDraft:
        """The draft of a valid row."""
        provenance = {**row["provenance"], "kind": DraftKind(row["provenance"]["kind"])}
        fields = {name: row[name] for name in ("id", "task", "messages", "steps")}
        return cls(**fields, provenance=Provenance(**provenance))

    def to_row(self) -> dict[str, Any]:
        """The row that `from_row` reads."""
        return {"schema": SCHEMA, **asdict(self)}


def new_draft(
    task: Task, instructions: str, prompt: str, steps: list[dict[str, Any]], provenance: Provenance, number: int = 0
) -> PlanDraft:
    """A draft; the same task, source and number always have the same id."""
    messages = [{"role": "system", "content": instructions}] if instructions else []
    mark = hashlib.sha256(f"{provenance.kind}\n{provenance.source}".encode(errors="backslashreplace")).hexdigest()[:6]
    return PlanDraft(
        id=f"{task.id}~{mark}.{number}",
        task=task.to_row(),
        messages=[*messages, {"role": "user", "content": prompt}],
        steps=steps,
        provenance=provenance,
    )


def now() -> str:
    """The time: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def drafts_path(folder: str | Path) -> Path:
    """The file of a folder's drafts."""
    return Path(folder) / "plans.jsonl"


def read_drafts(folder: str | Path) -> tuple[list[PlanDraft], list[str]]:
    """The drafts of a folder in the order they were made, and what is wrong with the lines that hold none.

    Raises:
        PlanError: there are none.
    """
    path = drafts_path(folder)
    if not path.exists():
        raise PlanError(f"no plans in {folder}: expected a file plans.jsonl; `forethought plans draft` writes it")
    drafts: dict[str, PlanDraft] = {}
    problems = []
    for number, row, problem in read_lines(path, "plan-draft", _is_sound):
        if row is None:
            problems.append(problem)
        elif row["id"] in drafts:
            problems.append(f"{path}, line {number}: the id {row['id']!r} is taken by an earlier line")
        else:
            drafts[row["id"]] = PlanDraft.from_row(row)
    if not drafts:
        raise PlanError(f"no plans in {path}: {problems[0] if problems else 'the file is empty'}")
    return list(drafts.values()), problems


def write_drafts(folder: str | Path, drafts: Iterable[PlanDraft]) -> tuple[int, int]:
    """Append drafts to a folder; those that it has are left out, so an interrupted command goes on where it was.

    Returns:
        How many were added, and how many were there.

    Raises:
        PlanError: another process writes to the folder.
    """
    path = drafts_path(folder)
    known = {row["id"] for _, row, _ in read_lines(path, "plan-draft", _is_sound) if row is not None}
    before, added = len(known), 0
    with LineWriter(path) as writer:
        for draft in drafts:
            if draft.id not in known:
                known.add(draft.id)
                writer.append(draft.to_row())
                added += 1
    return added, before


def _is_sound(row: dict[str, Any]) -> bool:
    """Whether a row plainly is a draft."""
    task, provenance = row.get("task"), row.get("provenance")
    return (
        row.keys() == _FIELDS
        and type(row["id"]) is str
        and row["id"] != ""
        and type(task) is dict
        and type(task.get("id")) is str
        and task["id"] != ""
        and type(task.get("prompt")) is str
        and are_steps(row["steps"])
        and len(row["steps"]) > 0
        and all(step["text"] and min(step["after"], default=1) > 0 for step in row["steps"])
        and type(row["messages"]) is list
        and len(row["messages"]) > 0
        and all(_is_message(message) for message in row["messages"])
        and type(provenance) is dict
        and provenance.keys() == set(Provenance.__dataclass_fields__)
        and provenance["kind"] in _KINDS
        and all(type(provenance[name]) is str for name in ("source", "author", "original", "made"))
        and provenance["spelling"] in ("json", "words", None)
        and (provenance["env"] is None or _is_env(provenance["env"]))
        and type(provenance["notes"]) is list
        and all(type(note) is str for note in provenance["notes"])
    )


def _is_message(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == {"role", "content"}
        and value["role"] in ("system", "user")
        and type(value["content"]) is str
    )


def _is_env(value: Any) -> bool:
    return (
        type(value) is dict
        and type(value.get("id")) is str
        and type(value.get("version")) is str
        and type(value.get("kwargs")) is dict
    )


_FIELDS = {"schema", *PlanDraft.__dataclass_fields__}
_KINDS = tuple(str(kind) for kind in DraftKind)
