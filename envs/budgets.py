"""What an episode may use, and what it has used. Budgets truncate an episode; they never raise.

An episode with sub-tasks is a tree: turns and tool calls are limited in each of its parts, sampled tokens and calls to
sub-models in the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one episode; None is no limit."""

    turns: int | None = 16
    tool_calls: int | None = None
    sampled_tokens: int | None = None
    seconds: float | None = None
    sub_calls: int | None = None
    """Calls to sub-models, in the whole tree."""
    width: int | None = None
    """Calls to sub-models in one turn."""
    depth: int = 1
    """How deep calls to sub-models may nest; with 1 a sub-model cannot ask in its turn."""
    repeats: int | None = 8
    """How often the same call may give the same answer; then the episode ends as a `loop`."""

    def __post_init__(self) -> None:
        for name in ("turns", "tool_calls", "sampled_tokens", "seconds", "sub_calls", "width", "depth"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"budget {name!r} must be greater than 0 or None, found {value!r}")
        if self.repeats is not None and self.repeats < 2:
            raise ValueError(f"budget 'repeats' must be 2 or more, or None, found {self.repeats!r}")


@dataclass(slots=True)
class Usage:
    """What one episode or sub-task has used so far; sampled tokens, sub-calls and cost include its sub-tasks."""

    turns: int = 0
    tool_calls: int = 0
    failed_calls: int = 0
    format_errors: int = 0
    sampled_tokens: int = 0
    summaries: int = 0
    sub_calls: int = 0
    cost: float = 0.0
    """What frozen sub-models cost, in the unit of their prices."""
    parent: Usage | None = None
    """Of the episode or sub-task that handed out this one."""

    @property
    def tree(self) -> Usage:
        """Of the whole tree."""
        usage = self
        while usage.parent is not None:
            usage = usage.parent
        return usage

    def count(self, *, sampled_tokens: int = 0, sub_calls: int = 0, cost: float = 0.0) -> None:
        """Add to this part of the tree and to all that it belongs to."""
        usage: Usage | None = self
        while usage is not None:
            usage.sampled_tokens += sampled_tokens
            usage.sub_calls += sub_calls
            usage.cost += cost
            usage = usage.parent

    def as_dict(self) -> dict[str, float]:
        """A fresh dictionary."""
        return {
            "turns": self.turns,
            "tool_calls": self.tool_calls,
            "failed_calls": self.failed_calls,
            "format_errors": self.format_errors,
            "sampled_tokens": self.sampled_tokens,
            "summaries": self.summaries,
            "sub_calls": self.sub_calls,
            "cost": self.cost,
        }

    def exceeded(self, budget: Budget, seconds: float) -> str | None:
        """The budget that is overdrawn, if any: more was used than it allows."""
        if budget.sampled_tokens is not None and self.tree.sampled_tokens > budget.sampled_tokens:
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
        if budget.sampled_tokens is not None and self.tree.sampled_tokens >= budget.sampled_tokens:
            return "sampled_tokens"
        return None
