"""Who stands where: accuracy, and the paired comparison of every run with the best one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...evaluation.statistics import Floats
from ..result import Result
from .runs import BoardRun

_FLIPS = 10_000
_CHUNK = 100


def rank(runs: Sequence[BoardRun], seed: int) -> list[BoardRun]:
    """The runs of one suite, best first, with rank and p value set; runs of one accuracy share a rank."""
    ordered = sorted(runs, key=lambda run: (-_accuracy(run), run.label))
    for number, run in enumerate(ordered):
        same = number and _accuracy(run) == _accuracy(ordered[number - 1])
        run.rank = ordered[number - 1].rank if same else number + 1
    if len(ordered) > 1:
        first, *others = ordered
        for run, p_value in zip(others, _p_values(first.result, [run.result for run in others], seed), strict=True):
            run.p_value = p_value
    return ordered


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (cost, accuracy) those that no other one beats in both, cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return best


def _accuracy(run: BoardRun) -> float:
    assert run.result.accuracy.value is not None
    return run.result.accuracy.value


def _p_values(best: Result, others: Sequence[Result], seed: int) -> list[float | None]:
    """The sign-flip test of `compare_paired` for many runs against one, the flips drawn once for all.

    Every entry counts alike, however many tasks it has. None for a run that lacks a task of the best one.
    """
    weights = np.concatenate([np.full(len(e.tasks), 1 / max(1, len(e.tasks))) for e in best.entries])
    keys = [(entry.name, task.id) for entry in best.entries for task in entry.tasks]
    reference = _rates(best, keys)
    columns = [_rates(other, keys) for other in others]
    whole = [i for i, column in enumerate(columns) if column is not None]
    if reference is None or not whole:
        return [None] * len(others)
    differences = np.array([columns[i] for i in whole]) - reference
    differences *= weights
    found = _sign_flips(differences.T, seed)
    values: list[float | None] = [None] * len(others)
    for i, p_value in zip(whole, found, strict=True):
        values[i] = float(p_value)
    return values


def _rates(result: Result, keys: Sequence[tuple[str, str]]) -> Floats | None:
    rates = {(e.name, t.id): t.right / t.attempts for e in result.entries for t in e.tasks}
    return np.array([rates[key] for key in keys]) if all(key in rates for key in keys) else None


def _sign_flips(differences: Floats, seed: int) -> Floats:
    """Two-sided p value of each column, as in `compare_paired`."""
    count, runs = differences.shape
    observed = np.abs(differences.sum(axis=0)) - 1e-9 * np.abs(differences).sum(axis=0)
    if 2**count <= _FLIPS:
        signs = 1.0 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        exact: Floats = np.mean(np.abs(signs @ differences) >= observed, axis=0)
        return exact
    rng = np.random.default_rng(seed)
    as_large = np.zeros(runs)
    for _ in range(_FLIPS // _CHUNK):
        signs = 1.0 - 2 * rng.integers(0, 2, (_CHUNK, count))
        as_large += np.count_nonzero(np.abs(signs @ differences) >= observed, axis=0)
    p_values: Floats = (1 + as_large) / (1 + _FLIPS)
    return p_values
