"""Which episodes of a run are asked for, and how far the run has been read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .summary import Flag

_NO_FLAGS = Flag(0)


class ViewerError(RuntimeError):
    """Something cannot be shown; the message says what and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which lines of a run, and in which order."""

    search: str = ""
    """Words that all stand in the id or the task, in any case."""
    flags: Flag = _NO_FLAGS
    """What they all are."""
    score: str = "reward"
    """Name of the score that `low` and `high` bound: `reward` or a part."""
    low: float | None = None
    high: float | None = None
    task_id: str | None = None
    sort: str = "line"
    """`line`, `reward`, `tokens`, `turns` or `difficulty`; a `-` before it turns the order around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file has been read."""

    lines: int
    read_bytes: int
    """Bytes of whole lines that are in the index."""
    file_bytes: int
    reading: bool
    """Whether there are more whole lines to read."""
    damaged: int
    unsound: int
    problems: tuple[str, ...]
    generation: int
    """How many times the file was replaced by another one."""


def parse_flags(names: Iterable[str]) -> Flag:
    """The flags with these names, in small letters.

    Raises:
        ViewerError: there is no such flag.
    """
    flags = Flag(0)
    for name in names:
        if name.upper() not in Flag.__members__:
            raise ViewerError(f"no filter {name[:80]!r}: expected {', '.join(f.lower() for f in Flag.__members__)}")
        flags |= Flag[name.upper()]
    return flags
