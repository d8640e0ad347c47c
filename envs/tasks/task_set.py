"""Task sets: finite sequences of tasks with lazy views."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from .task import Task


class TaskSet(ABC):
    """A sequence of tasks. Task `i` is always the same task."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Task:
        """Task `index`, 0 <= index < len(self).

        Raises:
            IndexError: there is no such task.
        """

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(len(self)))

    def select(self, indices: Sequence[int]) -> TaskSet:
        """The tasks at `indices`, in that order."""
        return _Selected(self, indices)

    def head(self, count: int) -> TaskSet:
        """The first `count` tasks, or all of them when there are fewer."""
        return _Selected(self, range(min(count, len(self))))

    def shuffled(self, seed: int) -> TaskSet:
        """All tasks in an order that depends on `seed` only."""
        order = list(range(len(self)))
        random.Random(seed).shuffle(order)
        return _Selected(self, order)


class _Selected(TaskSet):
    def __init__(self, source: TaskSet, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Task:
        return self._source[self._indices[index]]
