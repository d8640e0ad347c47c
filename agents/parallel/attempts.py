"""The attempts at one task, what they cost, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...envs.tasks import Task
from ..agent import Agent
from ..env_spec import EnvSpec
from ..episode import Episode, Status
from ..evaluation.records import EpisodeRecord
from ..rollout import EpisodeRequest
from ..rollouts import collect_rollouts
from ..text_model import Prices
from .errors import ParallelError
from .strategies import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens and money."""

    sampled_tokens: float = 0.0
    critical_tokens: float = 0.0
    """Of these, the ones that somebody had to wait for: those on the longest path."""
    cost: float = 0.0
    """Money."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            sampled_tokens=self.sampled_tokens + other.sampled_tokens,
            critical_tokens=self.critical_tokens + other.critical_tokens,
            cost=self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is kept of one episode."""

    episode: str
    """Its id."""
    attempt: int
    answer: str | None
    correct: bool
    reward: float
    spent: Spent
    """In the episode itself."""
    values: Mapping[str, Any]
    """What each strategy read of it, by the strategy's name."""

    @classmethod
    def of(cls, episode: Episode, strategies: Sequence[Strategy], prices: Prices) -> Attempt:
        """Read an episode."""
        record = EpisodeRecord.of(episode)
        read = max(0, record.context_tokens - record.sampled_tokens)
        return cls(
            episode=episode.id,
            attempt=episode.attempt,
            answer=episode.answer,
            correct=record.correct,
            reward=record.reward,
            spent=Spent(
                sampled_tokens=record.sampled_tokens,
                critical_tokens=record.critical_tokens,
                cost=episode.usage.get("cost", 0.0) + prices.cost(read, record.sampled_tokens),
            ),
            values={strategy.name: strategy.read(episode) for strategy in strategies},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One task solved in parallel."""

    task_id: str
    chosen: str
    """Id of the chosen episode."""
    answer: str | None
    correct: bool
    reward: float
    attempts: int
    """Attempts that were chosen from."""
    sampled_tokens: float
    """Of all attempts together, and of what was spent besides."""
    critical_tokens: float
    """Of the attempt that takes longest: the others run at the same time."""
    cost: float
    """Money, of all attempts together."""


def group_attempts(
    episodes: Iterable[Episode], strategies: Sequence[Strategy], prices: Prices
) -> tuple[dict[str, list[Attempt]], int]:
    """The attempts at each task, in order of their numbers, and how many episodes were faults and are left out."""
    groups: dict[str, list[Attempt]] = {}
    faults = 0
    for episode in episodes:
        if episode.status is Status.FAULT:
            faults += 1
        else:
            groups.setdefault(episode.task_id, []).append(Attempt.of(episode, strategies, prices))
    # In an order of its own, so that no digit depends on which episode ended first.
    for group in groups.values():
        group.sort(key=lambda attempt: attempt.attempt)
    return dict(sorted(groups.items())), faults


def choose(task_id: str, group: Sequence[Attempt], strategy: Strategy, extra: Mapping[str, Spent]) -> Choice:
    """Choose one of the attempts at a task.

    Args:
        task_id: The task.
        group: The attempts.
        strategy: The strategy.
        extra: What was spent outside of the episodes, by episode: on a judge, on plans that were thrown away.
    """
    chosen = group[strategy.choose([attempt.values[strategy.name] for attempt in group])]
    spent = [attempt.spent + extra.get(attempt.episode, Spent()) for attempt in group]
    return Choice(
        task_id=task_id,
        chosen=chosen.episode,
        answer=chosen.answer,
        correct=chosen.correct,
        reward=chosen.reward,
        attempts=len(group),
        sampled_tokens=sum(part.sampled_tokens for part in spent),
        critical_tokens=max(part.critical_tokens for part in spent),
        cost=sum(part.cost for part in spent),
    )


async def solve_in_parallel(
    spec: EnvSpec,
    agent: Agent,
    task: Task,
    strategy: Strategy,
    *,
    attempts: int,
    seed: int = 0,
    concurrency: int = 256,
    prices: Prices | None = None,
) -> tuple[Choice, list[Episode]]:
    """Attempt one task several times at once and choose.

    Args:
        spec: The environment.
        agent: The policy.
        task: The task.
        strategy: How one of the attempts is chosen.
        attempts: How many.
        seed: Seeds the environment and, together with the attempt's number, the sampling.
        concurrency: Most episodes in flight.
        prices: What the policy's tokens cost; by default nothing.

    Returns:
        The choice, and the episodes in order of their numbers, faults included.

    Raises:
        ParallelError: every attempt ended in a fault.
    """
    requests = [EpisodeRequest(task=task, attempt=number, seed=seed) for number in range(attempts)]
    episodes = await collect_rollouts(requests, spec, agent, concurrency=concurrency)
    groups, faults = group_attempts(episodes, [strategy], prices or Prices())
    if not groups:
        raise ParallelError(f"task {task.id!r}: all {faults} attempts ended in a fault: {episodes[0].fault}")
    return choose(task.id, groups[task.id], strategy, {}), episodes
