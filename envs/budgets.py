"""What an episode may use, and what it has used. Budgets truncate an episode; they never raise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one episode; None is no limit."""

    turns: int | None = 16
    tool_calls: int | None = None
    sampled_tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("turns", "tool_calls", "sampled_tokens", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"budget {name!r} must be greater than 0 or None, found {value!r}")


@dataclass(slots=True)
class Usage:
    """What one episode has used so far."""

    turns: int = 0
    tool_calls: int = 0
    failed_calls: int = 0
    format_errors: int = 0
    sampled_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        """A fresh dictionary."""
        return {
            "turns": self.turns,
            "tool_calls": self.tool_calls,
            "failed_calls": self.failed_calls,
            "format_errors": self.format_errors,
            "sampled_tokens": self.sampled_tokens,
        }

    def exceeded(self, budget: Budget, seconds: float) -> str | None:
        """The budget that is overdrawn, if any: more was used than it allows."""
        if budget.sampled_tokens is not None and self.sampled_tokens > budget.sampled_tokens:
            return "sampled_tokens"
        if budget.tool_calls is not None and self.tool_calls > budget.tool_calls:
            return "tool_calls"
        if budget.seconds is not None and seconds > budget.seconds:
            return "seconds"
        return None

    def exhausted(self, budget: Budget) -> str | None:
        """The budget that leaves no room for another turn, if any."""
        if budget.turns is not None and self.turns >= budget.turns:
            return "turns"
        if budget.sampled_tokens is not None and self.sampled_tokens >= budget.sampled_tokens:
            return "sampled_tokens"
        return None
