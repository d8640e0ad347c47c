"""What samples tokens: the `Engine` protocol that every rollout is written against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class FinishReason(StrEnum):
    """Why an engine stopped sampling."""

    STOP = "stop"
    """A stop token was sampled (it is the last of `Sample.token_ids`)."""
    LENGTH = "length"
    """`SamplingParams.max_tokens` or the engine's context limit was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one turn is sampled."""

    max_tokens: int = 512
    """Most tokens of one turn, the stop token included."""
    temperature: float = 1.0
    """0 is greedy. Log-probabilities are those of the tempered distribution (at 0: of temperature 1)."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps every token."""
    stop_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    """With a seed the same prompt gives the same tokens, whatever else is in flight."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the engine sampled for one prompt."""

    token_ids: list[int]
    logprobs: list[float]
    """Log-probability of each token under the distribution that it was drawn from, one per token."""
    finish_reason: FinishReason


class Engine(Protocol):
    """Samples tokens for many prompts at once. Token ids in, token ids and log-probabilities out.

    Calls are concurrent: a rollout awaits `sample` for each of its turns, and the engine batches whatever is in flight.
    """

    context_limit: int
    """Most tokens of prompt and sample together."""

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """Sample one continuation of `prompt_ids`.

        `session` names the context that this prompt continues (a segment of an episode): an engine may keep its state
        between turns and only read the tokens that are new.

        Raises:
            ValueError: the prompt is empty, or leaves no room within `context_limit`.
            InfrastructureFault: the engine cannot answer (a server is gone); never for what the model sampled.
        """
        ...

    def release(self, session: str) -> None:
        """Forget a session. Unknown sessions are ignored."""
        ...

    async def close(self) -> None:
        """Free what the engine holds. Later calls of `sample` raise `InfrastructureFault`."""
        ...
