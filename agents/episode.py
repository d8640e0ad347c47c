"""The episode: made once, by the rollout; trainers, evaluation and viewers only read it.

An `Episode` is a tree of `Segment`s. A segment is exactly one context that the model saw: the ids it was given and the
ids it sampled, in order. A turn is a stretch of sampled ids inside one segment together with what the environment
answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..envs.tools import CallResult


class SegmentKind(StrEnum):
    """Why a context began."""

    ROOT = "root"
    AFTER_SUMMARY = "after_summary"
    """The policy wrote a summary."""
    SUB_CALL = "sub_call"
    """The policy handed a sub-task to itself."""
    TRIMMED = "trimmed"
    """The oldest turns were dropped to make room."""


class Status(StrEnum):
    """How an episode ended."""

    COMPLETED = "completed"
    """The policy ended it (an answer)."""
    TRUNCATED = "truncated"
    """A budget ended it."""
    FAULT = "fault"
    """The infrastructure ended it: no reward, never in a loss, counted apart."""


@dataclass(slots=True)
class SectionSpan:
    """Tokens `start:end` of a segment that belong to one section of a turn, its markers included."""

    kind: str
    """`plan`, `think`, `call`, `summary` or `answer`."""
    start: int
    end: int


@dataclass(slots=True, kw_only=True)
class Segment:
    """One context that the model saw."""

    kind: SegmentKind = SegmentKind.ROOT
    parent: tuple[int, int] | None = None
    """(index of the parent segment, token position in it at which this one began); None for the root."""
    token_ids: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    """1 where the policy sampled the token, 0 where it was given; as long as `token_ids`."""
    logprobs: list[float] = field(default_factory=list)
    """The sampler's log-probability of each sampled token, 0.0 elsewhere; as long as `token_ids`."""
    sections: list[SectionSpan] = field(default_factory=list)

    def give(self, token_ids: list[int]) -> None:
        """Append tokens that the policy reads."""
        self.token_ids += token_ids
        self.sampled += [0] * len(token_ids)
        self.logprobs += [0.0] * len(token_ids)

    def append_sampled(self, token_ids: list[int], logprobs: list[float]) -> None:
        """Append tokens that the policy sampled."""
        self.token_ids += token_ids
        self.sampled += [1] * len(token_ids)
        self.logprobs += logprobs


@dataclass(slots=True, kw_only=True)
class Turn:
    """One step of the environment: what the policy wrote, and what came back."""

    text: str
    """What `ToolEnv.step` was given (the end-of-turn token is not part of it)."""
    observation: str
    segment: int
    start: int
    """First sampled token of the turn in its segment."""
    end: int
    """One past the last sampled token of the turn."""
    calls: list[CallResult] = field(default_factory=list)
    error: str | None = None
    """Kind of the format error, None when the turn was well formed."""
    seconds: float = 0.0
    """Wall time of the environment's step."""
    sampling_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class PlanVersion:
    """A plan and the turn that it came in; a later version replaces it."""

    turn: int
    steps: list[dict[str, Any]]
    """`{"number": int, "text": str, "after": [int, ...]}` each."""


@dataclass(slots=True, kw_only=True)
class Episode:
    """One attempt at one task."""

    id: str
    """Unique within a run: `<task id>/<attempt>`."""
    task_id: str
    attempt: int
    env: dict[str, Any]
    """`{"id": ..., "version": ..., "kwargs": {...}}`: enough to make the environment again."""
    task: dict[str, Any]
    """The task as a row (see the task schema)."""
    seed: int
    window: dict[str, Any] = field(default_factory=dict)
    """The context window that it was made under: `{"limit": ..., "policy": ...}`."""
    segments: list[Segment] = field(default_factory=list)
    """The tree; the root is the first, and a parent comes before its children."""
    turns: list[Turn] = field(default_factory=list)
    """In order; behind each turn those of the sub-tasks that it handed out."""
    plans: list[PlanVersion] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    reward: float = 0.0
    answer: str | None = None
    usage: dict[str, float] = field(default_factory=dict)
    """`turns`, `tool_calls`, `sampled_tokens`, `context_tokens`, `seconds`, and what the environment counts besides.

    Turns and calls are those of the episode's own contexts, the rest those of the whole tree."""
    stop_reason: str = ""
    """`answered`, the name of the budget that ran out, `context` or `segments` (the window), or `fault`."""
    status: Status = Status.COMPLETED
    fault: str | None = None
    """What failed, for a fault; None otherwise."""
    retries: int = 0
    """Attempts at this episode that a fault ended before this one."""

    def sampled_tokens(self) -> int:
        """Tokens that the policy sampled, over all segments."""
        return sum(sum(segment.sampled) for segment in self.segments)

    def depth_of(self, segment: int) -> int:
        """How many sub-tasks a segment lies in; 0 for the episode's own contexts."""
        depth = 0
        while (parent := self.segments[segment].parent) is not None:
            depth += self.segments[segment].kind is SegmentKind.SUB_CALL
            segment = parent[0]
        return depth

    def task_of(self, segment: int) -> int:
        """The segment with which the episode or sub-task began that a segment belongs to."""
        while (part := self.segments[segment]).kind in (SegmentKind.AFTER_SUMMARY, SegmentKind.TRIMMED):
            assert part.parent is not None
            segment = part.parent[0]
        return segment

    def turns_of(self, task: int = 0) -> list[Turn]:
        """Turns of the episode itself, or of the sub-task that began with segment `task`."""
        return [turn for turn in self.turns if self.task_of(turn.segment) == task]

    def section_tokens(self, kind: str) -> int:
        """Tokens in sections of one kind, over all segments, markers included."""
        return sum(span.end - span.start for s in self.segments for span in s.sections if span.kind == kind)
