"""The statistics of the report card: estimators, intervals and tests, in numpy alone.

Episodes of one task are not independent, so every interval resamples *tasks* and takes all episodes of a task along.
All of it is seeded: the same episodes give the same interval, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
_FLIPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; None where the data do not define it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def pass_at_k(attempts: int, right: int, k: int) -> float:
    """Unbiased chance that at least one of `k` attempts is right: `1 - C(n-c, k) / C(n, k)` (Chen et al. 2021).

    Raises:
        ValueError: not 1 <= k <= attempts, or not 0 <= right <= attempts.
    """
    _check_counts(attempts, right, k)
    return 1.0 - math.comb(attempts - right, k) / math.comb(attempts, k)


def pass_hat_k(attempts: int, right: int, k: int) -> float:
    """Unbiased chance that all of `k` attempts are right: `C(c, k) / C(n, k)` (tau-bench, Yao et al. 2024).

    Raises:
        ValueError: not 1 <= k <= attempts, or not 0 <= right <= attempts.
    """
    _check_counts(attempts, right, k)
    return math.comb(right, k) / math.comb(attempts, k)


def wilson_interval(right: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = right / trials, _Z * _Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    return 0.0 if right == 0 else centre - half, 1.0 if right == trials else centre + half


def spearman(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Spearman's rank correlation; tied values share the mean of their ranks. NaN when either side is constant.

    Args:
        x: Values.
        y: Values, one for each of `x`.
        weights: How often each pair counts, once each by default.
    """
    groups_x, groups_y = _groups(x), _groups(y)
    counts = np.ones(len(groups_x)) if weights is None else np.asarray(weights, np.float64)
    return _correlation(_midranks(groups_x, counts), _midranks(groups_y, counts), counts)


def least_squares(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Slope of the straight line `y = a + slope * x` of least squared error, and its R squared; NaN when undefined."""
    moments = _moments(np.asarray(x, np.float64), np.asarray(y, np.float64))
    slope, r_squared = _line(moments.sum(axis=1, keepdims=True))
    return float(slope[0]), float(r_squared[0])


class TaskBootstrap:
    """Percentile bootstrap that resamples tasks; the same resamples serve every statistic of a run.

    Args:
        tasks: The task of each episode: whatever can be compared.
        seed: Seed of the resamples.
    """

    def __init__(self, tasks: Sequence[Any], seed: int = 0) -> None:
        names, codes = np.unique(np.asarray(tasks), return_inverse=True)
        self._codes = codes.reshape(-1)
        self._tasks = len(names)
        rng = np.random.default_rng(seed)
        self._weights = np.zeros((RESAMPLES, self._tasks), np.uint8)
        """How often each resample holds each task."""
        for row in self._weights if self._tasks else ():
            drawn = rng.integers(0, self._tasks, self._tasks)
            row[:] = np.bincount(drawn, minlength=self._tasks)

    def ratio(self, numerators: ArrayLike, denominators: ArrayLike | None = None) -> Estimate:
        """Sum of the numerators over the sum of the denominators (1 each by default: the mean), one of each an episode.

        An episode that does not belong to the ratio has 0 in both. One task alone has no interval.
        """
        top = self._by_task(numerators)
        bottom = self._by_task(np.ones(len(self._codes)) if denominators is None else denominators)
        if bottom.sum() == 0:
            return Estimate()
        value = float(top.sum() / bottom.sum())
        if np.count_nonzero(bottom) < 2:
            return Estimate(value=value)
        with np.errstate(divide="ignore", invalid="ignore"):
            resampled = self._resample(top) / self._resample(bottom)
        return _estimate(value, resampled)

    def proportion(self, numerators: ArrayLike, denominators: ArrayLike | None = None) -> Estimate:
        """A `ratio` between 0 and 1.

        Where every task has one and the same share, a bootstrap cannot see that other tasks may differ: at shares 0 and
        1 the interval is Wilson's with one trial a task, the cautious count.
        """
        estimate = self.ratio(numerators, denominators)
        if estimate.value not in (0.0, 1.0):
            return estimate
        bottom = self._by_task(np.ones(len(self._codes)) if denominators is None else denominators)
        trials = int(np.count_nonzero(bottom))
        low, high = wilson_interval(estimate.value * trials, trials)
        return Estimate(value=estimate.value, low=low, high=high)

    def spearman(self, x: ArrayLike, y: ArrayLike) -> Estimate:
        """Spearman's rho over episodes."""
        groups_x, groups_y = _groups(x), _groups(y)
        resampled = np.empty(RESAMPLES)
        for i, row in enumerate(self._weights):
            counts = row[self._codes].astype(np.float64)
            resampled[i] = _correlation(_midranks(groups_x, counts), _midranks(groups_y, counts), counts)
        return _estimate(spearman(x, y), resampled)

    def line(self, x: ArrayLike, y: ArrayLike) -> tuple[Estimate, Estimate]:
        """Slope and R squared of the least-squares line through the episodes."""
        moments = _moments(np.asarray(x, np.float64), np.asarray(y, np.float64))
        slope, r_squared = _line(np.array([self._resample(self._by_task(row)) for row in moments]))
        value, fit = least_squares(x, y)
        return _estimate(value, slope), _estimate(fit, r_squared)

    def _by_task(self, values: ArrayLike) -> Floats:
        sums = np.bincount(self._codes, np.asarray(values, np.float64), self._tasks)
        return sums.astype(np.float64)

    def _resample(self, sums: Floats) -> Floats:
        """The sum over tasks in every resample."""
        blocks = [self._weights[i : i + 50].astype(np.float64) @ sums for i in range(0, RESAMPLES, 50)]
        return np.concatenate(blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """Two runs on the same tasks."""

    tasks: int
    """Tasks that both runs have."""
    difference: Estimate
    """Second run less first run, mean over tasks."""
    p_value: float
    """Two-sided, of the sign-flip test: how often chance alone gives a difference as large."""


def compare_paired(first: ArrayLike, second: ArrayLike, seed: int = 0) -> PairedComparison:
    """Compare two runs task by task.

    The interval resamples tasks; the p value flips the sign of each task's difference, exactly when there are few
    tasks, else in 10,000 random ways (Fisher's randomisation test, `(1 + as large) / (1 + flips)`).

    Args:
        first: One value a task.
        second: The other run's, in the same order.
        seed: Seed of the resamples and flips.

    Raises:
        ValueError: there is no task, or the runs differ in length.
    """
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    count = len(differences)
    if count == 0:
        raise ValueError("the two runs have no task in common")
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    if 2**count <= _FLIPS:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        p_value = float(np.mean(np.abs(signs @ differences) >= observed))
    else:
        rng = np.random.default_rng(seed)
        as_large = 0
        for _ in range(_FLIPS // 100):
            signs = 1 - 2 * rng.integers(0, 2, (100, count))
            as_large += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
        p_value = (1 + as_large) / (1 + _FLIPS)
    difference = TaskBootstrap(range(count), seed).ratio(differences)
    return PairedComparison(tasks=count, difference=difference, p_value=p_value)


def _check_counts(attempts: int, right: int, k: int) -> None:
    if not 1 <= k <= attempts or not 0 <= right <= attempts:
        raise ValueError(f"expected 1 <= k <= attempts and 0 <= right <= attempts, found {k=}, {attempts=}, {right=}")


def _estimate(value: float, resampled: Floats) -> Estimate:
    if not math.isfinite(value):
        return Estimate()
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Estimate(value=value)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=value, low=float(low), high=float(high))


def _groups(values: ArrayLike) -> NDArray[np.intp]:
    """The number of each value among the distinct values, in order of size."""
    return np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1)


def _midranks(groups: NDArray[np.intp], counts: Floats) -> Floats:
    """Ranks of values of which each occurs `counts` times, ties sharing their mean rank."""
    sizes = np.bincount(groups, counts)
    ranks: Floats = (np.cumsum(sizes) - (sizes - 1) / 2)[groups]
    return ranks


def _correlation(x: Floats, y: Floats, counts: Floats) -> float:
    """Pearson's correlation of pairs of which each occurs `counts` times; NaN when a side is constant."""
    total = counts.sum()
    if total == 0:
        return math.nan
    x = x - counts @ x / total
    y = y - counts @ y / total
    scale = math.sqrt((counts @ (x * x)) * (counts @ (y * y)))
    return float(counts @ (x * y)) / scale if scale > 1e-9 * total else math.nan


def _moments(x: Floats, y: Floats) -> Floats:
    """What a straight line is computed from, one column an episode. Centred first, for the sake of precision."""
    if len(x):
        x, y = x - x.mean(), y - y.mean()
    return np.array([np.ones(len(x)), x, y, x * x, x * y, y * y])


def _line(sums: Floats) -> tuple[Floats, Floats]:
    n, x, y, xx, xy, yy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        var_x, cov, var_y = xx - x * x / n, xy - x * y / n, yy - y * y / n
        var_x[var_x < 1e-9 * n] = np.nan
        slope = cov / var_x
        r_squared = np.where(var_y > 1e-9 * n, slope * cov / var_y, np.nan)
    return slope, r_squared
