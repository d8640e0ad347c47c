"""A Gymnasium space for any text."""

from __future__ import annotations

from typing import Any

import gymnasium

_SAMPLES = (
    "",
    "hello",
    "<plan>\n1. look\n</plan>\n<answer>42</answer>",
    "<answer>naïve 中文 🎈</answer>",
    "\x00\ud7ff<think>",
)


class AnyText(gymnasium.Space[str]):
    """Every `str`: any length, any Unicode.

    `gymnasium.spaces.Text` cannot hold Unicode, is slow on long text, and reads zeros for ever from an
    `AsyncVectorEnv` with shared memory. With this space use `vector_kwargs={"shared_memory": False}`.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(None, str, seed)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a `str`."""
        return isinstance(x, str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short text: sometimes empty, well formed, malformed or not ASCII."""
        return _SAMPLES[int(self.np_random.integers(len(_SAMPLES)))]

    def __eq__(self, other: object) -> bool:
        """All spaces of text are the same."""
        return isinstance(other, AnyText)

    def __hash__(self) -> int:
        return hash(AnyText)

    def __repr__(self) -> str:
        return "AnyText()"
