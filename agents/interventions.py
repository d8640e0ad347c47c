"""Causal tests: does a policy use what it wrote down, and what its sub-models told it?

An intervention replaces a summary, or the answer of a sub-task, by one that was written for another task. A policy that
relies on them falls to chance. Episodes made so say it in `Episode.window`; they are for evaluation and do not replay.
"""

from __future__ import annotations

import random
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
_KEPT = 512


class Intervention(Protocol):
    """Changes what a policy reads of its own making."""

    name: str

    def summary(self, task_id: str, token_ids: list[int]) -> list[int]:
        """What is carried into the next context in place of a summary."""
        ...

    def answer(self, task_id: str, text: str | None) -> str | None:
        """What a sub-task answers in place of its own answer."""
        ...


class _Pool(Generic[T]):
    """The last things written, by task; gives one of another task."""

    def __init__(self) -> None:
        self._items: list[tuple[str, T]] = []
        self._random = random.Random(0)

    def exchange(self, task_id: str, item: T, default: T) -> T:
        """Put one in, take out one of another task; `default` as long as there is none."""
        others = [other for owner, other in self._items if owner != task_id]
        self._items = [*self._items[1 - _KEPT :], (task_id, item)]
        return self._random.choice(others) if others else default


class SwapSummaries:
    """Every summary is exchanged for one of another task (as long as there is none, it is lost)."""

    name = "swap_summaries"

    def __init__(self) -> None:
        self._pool: _Pool[list[int]] = _Pool()

    def summary(self, task_id: str, token_ids: list[int]) -> list[int]:
        """A summary of another task."""
        return self._pool.exchange(task_id, token_ids, [])

    def answer(self, task_id: str, text: str | None) -> str | None:
        """The answer itself."""
        return text


class SwapAnswers:
    """Every answer of a sub-task is exchanged for one that was given in another task."""

    name = "swap_answers"

    def __init__(self) -> None:
        self._pool: _Pool[str | None] = _Pool()

    def summary(self, task_id: str, token_ids: list[int]) -> list[int]:
        """The summary itself."""
        return token_ids

    def answer(self, task_id: str, text: str | None) -> str | None:
        """An answer from another task."""
        return self._pool.exchange(task_id, text, None)


INTERVENTIONS = {cls.name: cls for cls in (SwapSummaries, SwapAnswers)}
