"""The parts of a turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import FormatError
from .plan import Plan


class SectionKind(StrEnum):
    """The five sections of the grammar."""

    PLAN = "plan"
    THINK = "think"
    CALL = "call"
    SUMMARY = "summary"
    ANSWER = "answer"


class Mode(StrEnum):
    """How much of the protocol a policy must speak: the ablations of one task."""

    PLAN = "plan"
    """The first turn opens with a plan (the default)."""
    THINK = "think"
    """Plans are optional."""
    BARE = "bare"
    """Acts only: no plan, no think."""


@dataclass(slots=True)
class Section:
    """One section of a turn."""

    kind: SectionKind
    text: str
    """What stands between the markers."""
    start: int
    end: int
    """Characters `start:end` of the turn, markers included."""
    token_start: int = 0
    token_end: int = 0
    """Tokens `token_start:token_end` of the turn. A token belongs to the section in which it begins."""


@dataclass(slots=True)
class Call:
    """A tool call as the policy wrote it, not yet checked against the tool's schema."""

    name: str
    arguments: dict[str, Any] | tuple[str, ...]
    """By name (`json`) or by position (`words`)."""
    step: int | None = None
    """Number of the plan step that it serves, if it says so."""


@dataclass(slots=True)
class ParsedTurn:
    """A turn after parsing. When `error` is set, nothing of the turn takes effect."""

    text: str
    sections: list[Section] = field(default_factory=list)
    plan: Plan | None = None
    calls: list[Call] = field(default_factory=list)
    summary: str | None = None
    answer: str | None = None
    error: FormatError | None = None
