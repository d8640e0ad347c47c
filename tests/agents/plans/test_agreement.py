from __future__ import annotations

import random

import pytest

from forethought.agents.plans import Agreement, cohen_kappa, fleiss_kappa

A = [{"number": 1, "text": "a", "after": []}, {"number": 2, "text": "b", "after": []}]
B = [*A, {"number": 3, "text": "c", "after": []}]


def test_cohen_kappa_of_a_worked_example() -> None:
    # The example of the textbooks: 20 both yes, 5 and 10 apart, 15 both no: 0.7 observed, 0.5 by chance.
    assert cohen_kappa(20, 5, 10, 15) == pytest.approx(0.4)
    assert cohen_kappa(5, 0, 0, 5) == 1
    assert cohen_kappa(7, 0, 0, 0) is None


def test_fleiss_kappa_of_a_worked_example() -> None:
    # Three raters, four items: 3 of 3, 2 of 3, 0 of 3, 1 of 3.
    rated = [(3, 3, 1), (3, 2, 1), (3, 0, 1), (3, 1, 1)]
    observed = (1 + 1 / 3 + 1 + 1 / 3) / 4
    assert fleiss_kappa(rated) == pytest.approx((observed - 0.5) / 0.5)
    assert fleiss_kappa([]) is None
    assert fleiss_kappa([(2, 2, 5)]) is None


def test_fleiss_of_two_raters_is_scotts_pi() -> None:
    rng = random.Random(0)
    both = [(rng.random() < 0.6, rng.random() < 0.5) for _ in range(200)]
    yes = sum(a + b for a, b in both) / 400
    chance = yes**2 + (1 - yes) ** 2
    observed = sum(a == b for a, b in both) / 200
    counts = [(2, n, sum(a + b == n for a, b in both)) for n in range(3)]
    assert fleiss_kappa(counts) == pytest.approx((observed - chance) / (1 - chance))


def test_a_table_says_who_agrees_and_what_was_changed() -> None:
    agreement = Agreement()
    agreement.update("p1", "human", A, [("Ada", True, B), ("Grace", True, A)])
    agreement.update("p2", "model", A, [("Ada", False, A), ("Grace", True, A)])
    agreement.update("p3", "human", A, [("Ada", False, A)])
    table = agreement.table()
    assert (table.decided, table.shared) == (3, 2)
    (pair,) = table.pairs
    assert (pair.first, pair.second, pair.plans, pair.observed) == ("Ada", "Grace", 2, 0.5)
    assert table.apart == pytest.approx(1 / 3)
    human, model = table.sources
    assert (human.kind, human.decisions, human.changed) == ("human", 3, 0.2)
    assert human.accepted == pytest.approx(2 / 3)
    assert (model.accepted, model.changed) == (0.5, 0.0)


def test_counting_a_plan_anew_is_as_if_it_had_been_counted_once() -> None:
    often, once = Agreement(), Agreement()
    often.update("p", "human", A, [("Ada", True, B)])
    often.update("p", "human", A, [("Ada", False, A), ("Grace", True, B)])
    often.update("p", "human", A, [])
    often.update("p", "human", A, [("Ada", False, B)])
    once.update("p", "human", A, [("Ada", False, B)])
    assert often.table() == once.table()
