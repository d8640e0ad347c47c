from __future__ import annotations

import json
import math
import random

import pytest

from forethought.agents.evaluation.horizon import Horizon, TaskOutcome, fit_horizon


def outcomes(
    rng: random.Random, half: float, slope: float, lengths: range, tasks: int = 25, attempts: int = 4
) -> list[TaskOutcome]:
    """Tasks whose success follows a known curve."""
    made = []
    for length in lengths:
        p = 1 / (1 + math.exp(slope * (length - half)))
        for _ in range(tasks):
            made.append(TaskOutcome(length, sum(rng.random() < p for _ in range(attempts)), attempts))
    return made


def value(horizon: Horizon | None) -> float:
    assert horizon is not None and horizon.steps.value is not None
    return horizon.steps.value


@pytest.mark.parametrize(("half", "slope"), [(5.0, 1.0), (12.5, 0.4), (17.0, 0.2)])
def test_a_known_curve_is_found(half: float, slope: float) -> None:
    horizon = fit_horizon(outcomes(random.Random(1), half, slope, range(0, 25), tasks=40))
    assert value(horizon) == pytest.approx(half, rel=0.06)
    assert horizon is not None and horizon.slope == pytest.approx(-slope, rel=0.15)
    assert horizon.steps.low is not None and horizon.steps.high is not None
    assert horizon.steps.low < half < horizon.steps.high and not (horizon.low_open or horizon.high_open)


def test_exact_shares_give_the_exact_horizon() -> None:
    """The odds of 3, 1 and 1/3 are a straight line of log-odds that is 0 at length 4."""
    exact = [TaskOutcome(2, 750, 1000), TaskOutcome(4, 500, 1000), TaskOutcome(6, 250, 1000)]
    horizon = fit_horizon(exact)
    assert value(horizon) == pytest.approx(4, abs=1e-6)
    assert horizon is not None and horizon.slope == pytest.approx(-math.log(3) / 2, rel=1e-3)
    middle = horizon.curve[len(horizon.curve) // 2]
    assert middle.length == 4 and middle.success == pytest.approx(0.5, abs=1e-6)
    assert [level.success for level in horizon.levels] == [0.75, 0.5, 0.25]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for number in range(60):
        horizon = fit_horizon(outcomes(random.Random(number), 6.0, 0.7, range(1, 12), tasks=12, attempts=2))
        assert horizon is not None and horizon.steps.low is not None and horizon.steps.high is not None
        inside += horizon.steps.low <= 6.0 <= horizon.steps.high
    assert inside >= 52


def test_perfect_separation_lies_between_the_two_sides() -> None:
    horizon = fit_horizon([TaskOutcome(n, 3 * (n <= 4), 3) for n in range(9) for _ in range(5)])
    assert value(horizon) == pytest.approx(4.5, abs=0.1)


@pytest.mark.parametrize(
    ("right", "beyond"),
    [
        (lambda n: 4, "above"),
        (lambda n: 0, "below"),
        (lambda n: min(4, n), "unordered"),
        (lambda n: 4 - (n > 7), "above"),
    ],
)
def test_what_lies_beyond_the_measured_lengths_is_not_made_up(right: object, beyond: str) -> None:
    assert callable(right)
    horizon = fit_horizon([TaskOutcome(n, right(n), 4) for n in range(9) for _ in range(6)])
    assert horizon is not None and horizon.steps.value is None and horizon.beyond == beyond


def test_an_interval_that_leaves_the_measured_lengths_says_so() -> None:
    horizon = fit_horizon(outcomes(random.Random(3), 7.6, 0.3, range(1, 9), tasks=6, attempts=1))
    assert horizon is not None and horizon.high_open
    assert horizon.steps.high in (None, 8.0)


def test_one_length_has_no_horizon() -> None:
    assert fit_horizon([TaskOutcome(3, 1, 2)] * 5) is None
    assert fit_horizon([]) is None


def test_it_survives_json_and_is_seeded() -> None:
    made = outcomes(random.Random(5), 4, 1, range(9))
    horizon = fit_horizon(made, seed=2)
    assert horizon is not None and horizon == fit_horizon(made, seed=2)
    assert Horizon.from_dict(json.loads(json.dumps(horizon.to_dict()))) == horizon
