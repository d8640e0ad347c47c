"""Strategies: which of the attempts at a task is chosen."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ...envs.answers import normalize_answer
from ..episode import Episode
from ..evaluation.statistics import Floats
from .confidence import answer_logprob, episode_logprob
from .errors import ParallelError
from .verifiers import is_right

_MOST_SUBSETS = 1000


class Strategy(ABC):
    """Chooses one of several attempts, from what it reads of each."""

    name: str

    @abstractmethod
    def read(self, episode: Episode) -> Any:
        """What the choice depends on: kept in place of the episode.

        Raises:
            ParallelError: the episode does not hold it.
        """

    @abstractmethod
    def choose(self, values: Sequence[Any]) -> int:
        """Index of the chosen attempt, given what was read of each, in the order of their numbers."""

    def chances(self, values: Sequence[Any], n: int) -> Floats:
        """How often each attempt is chosen when `n` of the attempts are drawn, each set of `n` as likely as another.

        Over all sets where there are no more than 1,000, else over 1,000 random ones (the same in every process).
        """
        subsets = _subsets(len(values), n)
        chosen = [subset[self.choose([values[i] for i in subset])] for subset in subsets]
        return np.bincount(chosen, minlength=len(values)) / len(subsets)


class BestOf(Strategy):
    """The attempt with the highest score; of equal ones the earliest.

    Args:
        score: A verifier, or the policy's own confidence: the same episode must always have the same score.
        name: Name in results.
    """

    def __init__(self, score: Callable[[Episode], float], name: str) -> None:
        self._score = score
        self.name = name

    def read(self, episode: Episode) -> float:
        """Its score."""
        score = float(self._score(episode))
        if math.isnan(score):
            raise ParallelError(f"strategy {self.name!r}: the score of episode {episode.id!r} is not a number")
        return score

    def choose(self, values: Sequence[float]) -> int:
        """The first of the highest."""
        return max(range(len(values)), key=lambda i: values[i])

    def chances(self, values: Sequence[float], n: int) -> Floats:
        """Exact, whatever the number of sets."""
        return chances_of_best(values, n)


class MajorityVote(Strategy):
    """An attempt with the answer that most attempts give; of equally frequent answers, and within one, the earliest.

    An attempt without an answer has no vote. (Self-consistency: Wang et al., ICLR 2023.)

    Args:
        normalize: Which answers are the same; by default those that SQuAD's normalisation makes equal.
        name: Name in results.
    """

    def __init__(self, normalize: Callable[[str], str] | None = None, name: str = "vote") -> None:
        self._normalize = normalize or _normalize
        self.name = name

    def read(self, episode: Episode) -> str | None:
        """Its vote."""
        return None if episode.answer is None else self._normalize(episode.answer)

    def choose(self, values: Sequence[str | None]) -> int:
        """The first of the most frequent answer; the first attempt where none has an answer."""
        votes = Counter(value for value in values if value is not None)
        if not votes:
            return 0
        most = max(votes.values())
        return next(i for i, value in enumerate(values) if value is not None and votes[value] == most)


STRATEGIES: Mapping[str, Callable[[], Strategy]] = {
    "vote": MajorityVote,
    "confidence": lambda: BestOf(answer_logprob, "confidence"),
    "likelihood": lambda: BestOf(episode_logprob, "likelihood"),
    "oracle": lambda: BestOf(is_right, "oracle"),
}
"""Those that need nothing but the episodes, by name."""


def chances_of_best(values: Sequence[float] | Floats, n: int) -> Floats:
    """How often each value is the highest of `n` drawn from all; of equal ones the first counts as higher.

    The one of rank r is the highest of the sets that hold it and `n - 1` of those behind it.
    """
    count = len(values)
    chances = np.zeros(count)
    for rank, i in enumerate(sorted(range(count), key=lambda i: -values[i])):
        chances[i] = math.comb(count - 1 - rank, n - 1) / math.comb(count, n)
    return chances


def _normalize(answer: str) -> str:
    # "A" and "+" are answers too.
    return normalize_answer(answer) or " ".join(answer.lower().split())


@lru_cache(maxsize=64)
def _subsets(count: int, n: int) -> tuple[tuple[int, ...], ...]:
    if math.comb(count, n) <= _MOST_SUBSETS:
        return tuple(combinations(range(count), n))
    rng = np.random.default_rng((count, n))
    return tuple(tuple(sorted(rng.permutation(count)[:n].tolist())) for _ in range(_MOST_SUBSETS))
