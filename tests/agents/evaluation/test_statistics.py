from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.agents.evaluation import Estimate
from forethought.agents.evaluation.statistics import (
    TaskBootstrap,
    compare_paired,
    least_squares,
    pass_at_k,
    pass_hat_k,
    spearman,
    wilson_interval,
)


@given(st.integers(1, 8), st.data())
def test_pass_estimators_are_the_shares_of_all_choices_of_k_attempts(attempts: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, attempts))
    k = data.draw(st.integers(1, attempts))
    choices = list(combinations([True] * right + [False] * (attempts - right), k))
    assert pass_at_k(attempts, right, k) == pytest.approx(np.mean([any(c) for c in choices]))
    assert pass_hat_k(attempts, right, k) == pytest.approx(np.mean([all(c) for c in choices]))


def test_pass_estimators_do_not_overflow() -> None:
    assert pass_at_k(5000, 3, 2500) == pytest.approx(0.875, abs=1e-3)
    assert pass_hat_k(5000, 4999, 2500) == pytest.approx(0.5)


@pytest.mark.parametrize("arguments", [(4, 2, 0), (4, 2, 5), (4, 5, 1), (4, -1, 1)])
def test_pass_estimators_refuse_what_has_no_meaning(arguments: tuple[int, int, int]) -> None:
    for estimator in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match="1 <= k <= attempts"):
            estimator(*arguments)


def test_wilson_interval() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_spearman_by_hand() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


_PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30)


@given(_PAIRS)
def test_spearman_is_pearson_of_ranks_and_weights_are_repetitions(pairs: list[tuple[int, int, int]]) -> None:
    x, y, weights = (np.array(column) for column in zip(*pairs, strict=True))
    x_all, y_all = np.repeat(x, weights), np.repeat(y, weights)

    def ranks(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[float]:
        return [float(np.sum(values < v) + (np.sum(values == v) + 1) / 2) for v in values]

    found = spearman(x, y, weights)
    if len(set(x_all.tolist())) < 2 or len(set(y_all.tolist())) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(ranks(x_all), ranks(y_all))[0, 1])


def test_least_squares_by_hand() -> None:
    assert least_squares([0, 1, 2], [1, 3, 5]) == pytest.approx((2, 1))
    assert least_squares([0, 1, 2], [1, 2, 2]) == pytest.approx((0.5, 0.75))
    assert all(math.isnan(v) for v in least_squares([1, 1], [1, 2]))
    slope, r_squared = least_squares([1, 2], [3, 3])
    assert slope == 0 and math.isnan(r_squared)


def test_intervals_count_tasks_not_episodes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    once = TaskBootstrap(range(40)).ratio(values)
    repeated = TaskBootstrap(np.repeat(np.arange(40), 10).tolist()).ratio(np.repeat(values, 10))
    assert repeated.low == pytest.approx(once.low) and repeated.high == pytest.approx(once.high)
    independent = TaskBootstrap(range(400)).ratio(np.repeat(values, 10))
    assert independent.high is not None and independent.low is not None
    assert once.high is not None and once.low is not None
    assert independent.high - independent.low < 0.5 * (once.high - once.low)


def test_intervals_are_the_same_every_time() -> None:
    tasks, values = ["a", "a", "b", "c"], [1.0, 2.0, 3.0, 7.0]
    assert TaskBootstrap(tasks, seed=3).ratio(values) == TaskBootstrap(tasks, seed=3).ratio(values)
    assert TaskBootstrap(tasks, seed=3).spearman(values, [1, 1, 2, 0]) == TaskBootstrap(tasks, seed=3).spearman(
        values, [1, 1, 2, 0]
    )


def test_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for run in range(200):
        of_task = rng.normal(size=50)
        values = np.repeat(of_task, 4) + rng.normal(size=200)
        interval = TaskBootstrap(np.repeat(np.arange(50), 4).tolist(), seed=run).ratio(values)
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= 0 <= interval.high
    assert 180 <= hits <= 198


def test_spearman_and_line_intervals_agree_with_resampling_by_hand() -> None:
    rng = np.random.default_rng(2)
    tasks = np.repeat(np.arange(12), 3)
    x = np.repeat(rng.integers(0, 4, 12), 3)
    y = x + rng.integers(0, 3, 36)
    bootstrap = TaskBootstrap(tasks.tolist(), seed=5)
    seeded = np.random.default_rng(5)
    rhos, slopes = [], []
    for _ in range(1000):
        drawn = seeded.integers(0, 12, 12)
        members = np.concatenate([np.flatnonzero(tasks == task) for task in drawn])
        rhos.append(spearman(x[members], y[members]))
        slopes.append(least_squares(x[members], y[members])[0])
    for found, by_hand in ((bootstrap.spearman(x, y), rhos), (bootstrap.line(x, y)[0], slopes)):
        assert (found.low, found.high) == pytest.approx(tuple(np.nanquantile(by_hand, [0.025, 0.975])))


def test_proportions_at_the_ends_have_the_interval_of_one_trial_a_task() -> None:
    bootstrap = TaskBootstrap(np.repeat(np.arange(10), 4).tolist())
    ones = bootstrap.proportion([1] * 40)
    assert ones.value == ones.high == 1.0 and ones.low == pytest.approx(0.72247, abs=1e-4)
    assert bootstrap.proportion([0] * 40).low == 0.0
    half = bootstrap.proportion([1] * 20 + [0] * 20)
    assert half.value == 0.5 and half.low is not None and half.low < 0.4


def test_what_is_not_defined_has_no_number() -> None:
    bootstrap = TaskBootstrap(["a", "b"])
    assert bootstrap.ratio([1, 2], [0, 0]) == Estimate()
    assert bootstrap.spearman([1, 1], [1, 2]) == Estimate()
    assert bootstrap.line([1, 1], [1, 2]) == (Estimate(), Estimate())
    assert TaskBootstrap(["a", "a"]).ratio([1, 3]) == Estimate(value=2.0)


def test_paired_comparison_by_hand() -> None:
    comparison = compare_paired([0, 0, 0], [1, 1, 1])
    assert comparison.p_value == 2 / 8
    assert comparison.difference.value == 1 and comparison.tasks == 3
    assert compare_paired([1, 2, 3], [1, 2, 3]).p_value == 1.0
    # of the 8 signed sums of 3, 1, 1 four are as large as 3 in size: 5, 3, 3 and their negatives make six
    assert compare_paired([0, 0, 0], [3, 1, -1]).p_value == 6 / 8
    with pytest.raises(ValueError, match="no task in common"):
        compare_paired([], [])


def test_random_flips_agree_with_all_flips() -> None:
    rng = np.random.default_rng(4)
    differences = rng.normal(0.3, 1, 14)
    signs = 1 - 2 * (np.arange(2**14)[:, None] >> np.arange(14) & 1)
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert compare_paired(np.zeros(14), differences).p_value == pytest.approx(exact, abs=0.02)
