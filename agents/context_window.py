"""Context windows: what happens when what a policy reads no longer fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class WindowPolicy(StrEnum):
    """How a context goes on when it is full."""

    NONE = "none"
    """It does not: the episode is truncated."""
    LEARNED = "learned"
    """The policy writes a summary, in any turn that it chooses, and is asked for one when the window is full. A new
    segment begins with the task, the plan and the summary."""
    TRUNCATE = "truncate"
    """The oldest turns are dropped until half of the window is free."""
    KEEP_RECENT = "keep_recent"
    """All but the last turns are dropped; the plan stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWindow:
    """Limits of one context, and what happens at them.

    A window is full when, after what comes next, one more turn of `turn_tokens` might not fit; under the policy
    `learned`, one more turn, the request for a summary and a summary of `summary_tokens`. So a summary is never cut by
    the window.

    SUPO (arXiv 2510.06727) discards the observation that no longer fits. Here it is held back until the summary is
    written, and then read: nothing that the environment said is lost.
    """

    limit: int | None = None
    """Most tokens of a context; None is what the engine takes."""
    policy: WindowPolicy | str = WindowPolicy.NONE
    summary_tokens: int | None = None
    """Tokens that are kept free for a summary; by default a twentieth of the window."""
    turn_tokens: int | None = None
    """Tokens that are kept free for one turn; by default a twentieth of the window."""
    segments: int | None = None
    """Most segments of one context; None is no limit."""
    recent: int = 4
    """Turns that `keep_recent` keeps."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", WindowPolicy(self.policy))
        for name in ("limit", "summary_tokens", "turn_tokens", "segments", "recent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"context window {name!r} must be at least 1, found {value}")

    @property
    def summaries(self) -> bool:
        """Whether a turn may be a summary."""
        return self.policy is WindowPolicy.LEARNED

    def describe(self) -> dict[str, Any]:
        """What a score is reported with."""
        return {"limit": self.limit, "policy": str(self.policy)}

    def within(self, context_limit: int) -> WindowLimits:
        """The limits in tokens, for an engine that takes `context_limit` tokens."""
        limit = context_limit if self.limit is None else min(self.limit, context_limit)
        share = max(1, limit // 20)
        return WindowLimits(
            limit=limit,
            turn=share if self.turn_tokens is None else self.turn_tokens,
            summary=0 if not self.summaries else share if self.summary_tokens is None else self.summary_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Limits of a context in tokens."""

    limit: int
    turn: int
    summary: int
