"""What an engine has done so far, for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made. Tokens are counted when they are computed, steps when they end."""

    sampled_tokens: int = 0
    prefilled_tokens: int = 0
    """Prompt tokens that were read by a forward pass."""
    reused_tokens: int = 0
    """Prompt tokens that were not read, because a session's slot still held them."""
    copied_tokens: int = 0
    """Prompt tokens that were not read, because another prompt of the same batch began with them."""
    steps: int = 0
    """Decode steps. Each samples one token for every row in flight."""
    prefills: int = 0
    """Forward passes over prompt tokens only."""
    evicted_sessions: int = 0
    """Idle sessions whose slot was given to another request."""
    seconds: float = 0.0
    """Time spent in steps, prefills included."""

    @property
    def mean_batch(self) -> float:
        """Rows in flight per decode step."""
        return self.sampled_tokens / self.steps if self.steps else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens per second spent in steps."""
        return self.sampled_tokens / self.seconds if self.seconds else 0.0
