"""What parallel compute brings and what it costs: accuracy beside tokens and money, for every number of attempts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..episode import Episode
from ..evaluation.statistics import Estimate, TaskBootstrap
from ..text_model import Prices
from .attempts import Attempt, Choice, Spent, choose, group_attempts
from .strategies import Strategy, chances_of_best

SCHEMA = "forethought/parallel/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelLevel:
    """A strategy with `attempts` attempts a task. Means over the tasks that have so many, intervals over tasks.

    Where a task has more attempts, each number is the mean over all ways to draw so many of them.
    """

    attempts: int
    tasks: int
    accuracy: Estimate
    reward: Estimate
    """Of the chosen attempt."""
    sampled_tokens: Estimate
    """A task, over all its attempts."""
    critical_tokens: Estimate
    """A task, in the attempt that takes longest."""
    cost: Estimate
    """Money a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelCard:
    """Strategies on the same episodes."""

    tasks: int = 0
    faults: int = 0
    """Episodes that the infrastructure ended: they are left out, so their task has fewer attempts."""
    levels: Mapping[str, tuple[ParallelLevel, ...]] = field(default_factory=dict)
    """Of each strategy, for 1, 2, 4, ... and all attempts."""
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    """Of each strategy, task by task, with all attempts that a task has."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, keys always in the same order."""
        return {"schema": SCHEMA, **asdict(self)}

    def write(self, folder: str | Path) -> None:
        """Write `parallel.json` beside the episodes: it is whole or absent, whenever the process dies."""
        path = Path(folder) / "parallel.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(partial, path)

    def table(self) -> str:
        """The levels as a table in plain text."""
        rows = [["strategy", "attempts", "accuracy", "95 %", "tokens", "critical path", "cost"]]
        rows += [_row(name, level) for name, levels in self.levels.items() for level in levels]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for name, *cells in rows:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded]))
        return "\n".join(lines)


def grade_parallel(
    episodes: Iterable[Episode],
    strategies: Sequence[Strategy],
    *,
    prices: Prices | None = None,
    extra: Mapping[str, Mapping[str, Spent]] | None = None,
    seed: int = 0,
) -> ParallelCard:
    """Apply strategies to the episodes of a run, which are taken one by one and not kept. Nothing is sampled.

    Args:
        episodes: Several attempts at each task, for example an `EpisodeStore`.
        strategies: The strategies; names must differ.
        prices: What the policy's tokens cost; what its sub-models cost is in the episodes and counts anyway.
        extra: What was spent outside of the episodes: for a strategy (by its name; "" is for all), by episode.
        seed: Seed of the intervals.

    Raises:
        ValueError: there is no strategy, or two have the same name.
        ParallelError: the episodes do not hold what a strategy needs.
    """
    names = [strategy.name for strategy in strategies]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected strategies with names that differ, found {', '.join(names) or 'none'}")
    groups, faults = group_attempts(episodes, strategies, prices or Prices())
    if not groups:
        return ParallelCard(faults=faults)
    bootstrap = TaskBootstrap(list(groups), seed)
    levels, choices = {}, {}
    for strategy in strategies:
        given = extra or {}
        spent = _sum(given.get("", {}), given.get(strategy.name, {}))
        levels[strategy.name] = tuple(
            _level(groups, strategy, spent, n, bootstrap) for n in _sizes(max(map(len, groups.values())))
        )
        choices[strategy.name] = tuple(choose(task, group, strategy, spent) for task, group in groups.items())
    return ParallelCard(tasks=len(groups), faults=faults, levels=levels, choices=choices)


def _row(name: str, level: ParallelLevel) -> list[str]:
    right = level.accuracy
    interval = "" if right.low is None else f"{right.low:.3f} - {right.high:.3f}"
    tokens = [f"{value.value:,.1f}" for value in (level.sampled_tokens, level.critical_tokens)]
    return [name, str(level.attempts), f"{right.value:.3f}", interval, *tokens, f"{level.cost.value:.6g}"]


def _level(
    groups: Mapping[str, Sequence[Attempt]],
    strategy: Strategy,
    extra: Mapping[str, Spent],
    n: int,
    bootstrap: TaskBootstrap,
) -> ParallelLevel:
    enough = [len(group) >= n for group in groups.values()]
    rows = [_expected(group, strategy, extra, n) if len(group) >= n else (0.0,) * 5 for group in groups.values()]
    right, reward, tokens, critical, cost = np.array(rows).T
    return ParallelLevel(
        attempts=n,
        tasks=sum(enough),
        accuracy=bootstrap.proportion(right, enough),
        reward=bootstrap.ratio(reward, enough),
        sampled_tokens=bootstrap.ratio(tokens, enough),
        critical_tokens=bootstrap.ratio(critical, enough),
        cost=bootstrap.ratio(cost, enough),
    )


def _expected(
    group: Sequence[Attempt], strategy: Strategy, extra: Mapping[str, Spent], n: int
) -> tuple[float, float, float, float, float]:
    """What one task is expected to give and cost when `n` of its attempts are made."""
    chances = strategy.chances([attempt.values[strategy.name] for attempt in group], n)
    spent = [attempt.spent + extra.get(attempt.episode, Spent()) for attempt in group]
    share = n / len(group)

    def total(value: Callable[[Spent], float]) -> float:
        return share * sum(map(value, spent))

    longest = np.sort([part.critical_tokens for part in spent])
    return (
        float(chances @ [attempt.correct for attempt in group]),
        float(chances @ [attempt.reward for attempt in group]),
        total(lambda part: part.sampled_tokens),
        float(chances_of_best(longest, n) @ longest),
        total(lambda part: part.cost),
    )


def _sum(first: Mapping[str, Spent], second: Mapping[str, Spent]) -> dict[str, Spent]:
    return {name: first.get(name, Spent()) + second.get(name, Spent()) for name in first.keys() | second.keys()}


def _sizes(most: int) -> list[int]:
    """1, 2, 4, ... and all."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
