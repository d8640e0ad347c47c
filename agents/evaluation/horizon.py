"""The 50 % horizon: how long a task may be until a policy does half of them, from a logistic fit over task length.

Kwa et al. 2025 (arXiv 2503.14499) fit it over the logarithm of the time that people take. Here a length is a number of
steps that the task set knows and that may be 0, so the fit is over the length itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .statistics import LEVEL, RESAMPLES, Estimate, Floats

_RIDGE = 0.02
"""Keeps the line of perfectly separated data finite; in units of one episode, on standardised lengths."""
_ITERATIONS = 60
_GRID = 41


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The fitted success rate at one length."""

    length: float
    success: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLevel:
    """What was measured at one length."""

    length: float
    tasks: int
    success: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The length at which success is 50 %. Intervals resample tasks."""

    steps: Estimate
    """No value where success never falls to a half within the measured lengths, or does not fall with length. Ends of
    the interval outside the measured lengths are put at the shortest or longest of them."""
    beyond: str | None = None
    """`above`: more than half are done at every measured length; `below`: fewer than half at every one; `unordered`:
    success does not fall with length."""
    low_open: bool = False
    """The interval begins below the shortest measured length."""
    high_open: bool = False
    """The interval ends above the longest measured length."""
    slope: float = 0.0
    """Change of the log-odds of success with one step more."""
    curve: tuple[CurvePoint, ...] = ()
    levels: tuple[MeasuredLevel, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "curve": [asdict(p) for p in self.curve], "levels": [asdict(p) for p in self.levels]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Horizon:
        """What `to_dict` wrote."""
        return cls(
            **{
                **data,
                "steps": Estimate(**data["steps"]),
                "curve": tuple(CurvePoint(**point) for point in data["curve"]),
                "levels": tuple(MeasuredLevel(**level) for level in data["levels"]),
            }
        )


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How often a task of known length was done."""

    length: float
    right: int
    attempts: int


def fit_horizon(outcomes: Iterable[TaskOutcome], *, seed: int = 0) -> Horizon | None:
    """Fit `log-odds of success = a + b * length` and solve it for a half.

    Args:
        outcomes: One for each task.
        seed: Seed of the interval.

    Returns:
        None when there are not two different lengths.
    """
    tasks = [outcome for outcome in outcomes if outcome.attempts]
    lengths, codes = np.unique([task.length for task in tasks], return_inverse=True)
    if len(lengths) < 2:
        return None
    data = _Levels(lengths, codes, tasks)
    fit = _fit(data, *data.sums())
    resampled = _fit(data, *data.resampled(seed))
    half, crossings = fit.crossings()[0], resampled.crossings()
    low, high = np.quantile(crossings, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    beyond = None
    if not lengths[0] <= half <= lengths[-1]:
        beyond = "above" if half > lengths[-1] else "below"
        if math.isinf(half) and not fit.one_sided[0]:
            beyond = "unordered"
    clipped = np.clip([low, high], lengths[0], lengths[-1])
    return Horizon(
        steps=Estimate() if beyond else Estimate(value=float(half), low=float(clipped[0]), high=float(clipped[1])),
        beyond=beyond,
        low_open=bool(low < lengths[0]),
        high_open=bool(high > lengths[-1]),
        slope=float(fit.slope[0] / data.scale),
        curve=_curve(data, fit, resampled),
        levels=data.measured(),
    )


class _Levels:
    """Successes and trials at each length."""

    def __init__(self, lengths: Floats, codes: Any, tasks: Sequence[TaskOutcome]) -> None:
        self.lengths = lengths
        self._codes = codes.reshape(-1)
        self._right = np.array([task.right for task in tasks], np.float64)
        self._trials = np.array([task.attempts for task in tasks], np.float64)
        self.centre = float(lengths.mean())
        self.scale = float(lengths.std())

    @property
    def standard(self) -> Floats:
        """Lengths with mean 0 and deviation 1."""
        scaled: Floats = (self.lengths - self.centre) / self.scale
        return scaled

    def sums(self) -> tuple[Floats, Floats]:
        """Successes and trials at each length, `(1, lengths)` each."""
        return self._at_levels(np.arange(len(self._codes)))

    def resampled(self, seed: int) -> tuple[Floats, Floats]:
        """The same of every resample of the tasks, `(resamples, lengths)` each."""
        rng, count = np.random.default_rng(seed), len(self._codes)
        rows = [self._at_levels(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
        return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])

    def measured(self) -> tuple[MeasuredLevel, ...]:
        """What was measured, by length."""
        right, trials = self.sums()
        tasks = np.bincount(self._codes, minlength=len(self.lengths))
        return tuple(
            MeasuredLevel(length=float(at), tasks=int(count), success=float(r / t))
            for at, count, r, t in zip(self.lengths, tasks, right[0], trials[0], strict=True)
        )

    def _at_levels(self, chosen: Any) -> tuple[Floats, Floats]:
        codes, size = self._codes[chosen], len(self.lengths)
        right: Any = np.bincount(codes, self._right[chosen], size)
        trials: Any = np.bincount(codes, self._trials[chosen], size)
        return right[None, :], trials[None, :]


@dataclass(frozen=True, slots=True)
class _Fit:
    """Lines on standardised lengths, one for each row of the data."""

    intercept: Floats
    slope: Floats
    centre: float
    scale: float
    all_right: Any
    all_wrong: Any
    mostly_right: Any

    @property
    def one_sided(self) -> Any:
        """Whether everything was right, or everything wrong."""
        return self.all_right | self.all_wrong

    def crossings(self) -> Floats:
        """The length at which success is a half; infinite where success does not fall with length."""
        falls = (self.slope < -1e-6) & ~self.one_sided
        with np.errstate(divide="ignore", invalid="ignore"):
            at = self.centre - self.scale * self.intercept / self.slope
        never = np.where(self.mostly_right, np.inf, -np.inf)
        crossings: Floats = np.where(falls, at, never)
        return crossings

    def success(self, lengths: Floats) -> Floats:
        """Fitted success, `(rows, lengths)`."""
        z = (lengths - self.centre) / self.scale
        return _sigmoid(self.intercept[:, None] + self.slope[:, None] * z)


def _fit(data: _Levels, right: Floats, trials: Floats) -> _Fit:
    """Newton's method on the penalised likelihood of every row at once."""
    z = data.standard
    intercept, slope = np.zeros(len(right)), np.zeros(len(right))
    for _ in range(_ITERATIONS):
        p = _sigmoid(intercept[:, None] + slope[:, None] * z)
        residual, weight = right - trials * p, trials * p * (1 - p)
        g0 = residual.sum(axis=1) - _RIDGE * intercept
        g1 = residual @ z - _RIDGE * slope
        h00, h01, h11 = weight.sum(axis=1) + _RIDGE, weight @ z, weight @ (z * z) + _RIDGE
        determinant = h00 * h11 - h01 * h01
        d0, d1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        # A step too far would leave the region where the curvature says anything.
        shrink = np.minimum(1.0, 2.0 / np.maximum(np.hypot(d0, d1), 1e-12))
        intercept, slope = intercept + shrink * d0, slope + shrink * d1
        if max(np.abs(d0).max(), np.abs(d1).max()) < 1e-9:
            break
    total, good = trials.sum(axis=1), right.sum(axis=1)
    return _Fit(intercept, slope, data.centre, data.scale, good == total, good == 0, good > total / 2)


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 0.5 * (1 + np.tanh(x / 2))
    return result


def _curve(data: _Levels, fit: _Fit, resampled: _Fit) -> tuple[CurvePoint, ...]:
    grid = np.linspace(data.lengths[0], data.lengths[-1], _GRID)
    low, high = np.quantile(resampled.success(grid), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return tuple(
        CurvePoint(length=float(x), success=float(y), low=float(min(a, y)), high=float(max(b, y)))
        for x, y, a, b in zip(grid, fit.success(grid)[0], low, high, strict=True)
    )
