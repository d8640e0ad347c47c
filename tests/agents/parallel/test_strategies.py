from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from forethought.agents import Episode
from forethought.agents.episode import Turn
from forethought.agents.parallel import (
    STRATEGIES,
    BestOf,
    MajorityVote,
    ParallelError,
    Strategy,
    answer_logprob,
    call_passed,
    episode_logprob,
    is_right,
)
from forethought.envs.tools import CallResult

Make = Callable[..., Episode]


def choose(strategy: Strategy, episodes: list[Episode]) -> int:
    return strategy.choose([strategy.read(episode) for episode in episodes])


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["b", "a", "a"], 1),
        (["The  Answer!", "b", "answer"], 0),  # the same answer after normalisation
        (["b", "a", "a", "b"], 0),  # a tie: the answer that came first
        ([None, None, "c"], 2),  # no answer, no vote
        ([None, None], 0),
        (["A", "the", "+", "A"], 0),  # answers that SQuAD's normalisation would empty
    ],
)
def test_votes(make_episode: Make, answers: list[str | None], chosen: int) -> None:
    assert choose(MajorityVote(), [make_episode("t", i, answer) for i, answer in enumerate(answers)]) == chosen


def test_a_vote_may_have_an_equality_of_its_own(make_episode: Make) -> None:
    episodes = [make_episode("t", i, answer) for i, answer in enumerate(["7", "3.0", "3"])]
    assert choose(MajorityVote(lambda answer: str(float(answer))), episodes) == 1


def test_the_highest_score_and_of_equal_ones_the_earliest(make_episode: Make) -> None:
    episodes = [make_episode("t", i, answer) for i, answer in enumerate(["b", "a", "a"])]
    assert choose(BestOf(is_right, "oracle"), episodes) == 1
    assert choose(BestOf(lambda episode: 0.0, "none"), episodes) == 0
    with pytest.raises(ParallelError, match="'broken': the score of episode 't/0' is not a number"):
        choose(BestOf(lambda episode: math.nan, "broken"), episodes)


def test_confidence_is_that_of_the_policy(make_episode: Make) -> None:
    sure, unsure = make_episode("t", 1, "a", logprobs=[-0.1, -0.3]), make_episode("t", 0, "b", tokens=6)
    assert answer_logprob(sure) == pytest.approx(-0.2) and answer_logprob(unsure) == -1.0
    assert episode_logprob(unsure) == pytest.approx(-(6 * 0.5 + 2 * 1.0) / 8)
    assert choose(STRATEGIES["confidence"](), [unsure, sure]) == 1
    assert choose(STRATEGIES["likelihood"](), [unsure, sure]) == 1
    unanswered = make_episode("t", 0, None, logprobs=[0.0, 0.0])
    assert answer_logprob(unanswered) == episode_logprob(unanswered) == -math.inf
    assert choose(STRATEGIES["confidence"](), [unanswered, sure]) == 1


def test_log_probabilities_that_nobody_gave(make_episode: Make) -> None:
    assert answer_logprob(make_episode("t", 0, "a", logprobs=[math.nan, -0.5])) == -0.5
    with pytest.raises(ParallelError, match="'t/0' holds no log-probabilities"):
        answer_logprob(make_episode("t", 0, "a", logprobs=[math.nan, math.nan]))


def test_a_check_of_the_policys_own(make_episode: Make) -> None:
    def attempt(*calls: tuple[str, str, str | None], answer: str | None = "code 2") -> Episode:
        results = [
            CallResult(name="run_tests", arguments={"solution": solution}, output=output, error=error)
            for solution, output, error in calls
        ]
        turns = [Turn(text="", observation="", segment=0, start=0, end=0, calls=[call]) for call in results]
        return make_episode("t", 0, answer, turns=turns)

    last = call_passed("run_tests", "all .* pass")
    answered = call_passed("run_tests", "all .* pass", "solution")
    passed, failed = "all public tests pass", "test 1 failed, all others pass"
    good = attempt(("code 1", failed, None), ("code 2\n", passed, None))
    assert last(good) == answered(good) == 1.0
    earlier = attempt(("code 2", passed, None), ("code 3", failed, None))
    assert (last(earlier), answered(earlier)) == (0.0, 1.0)
    another = attempt(("code 1", passed, None))
    assert (last(another), answered(another)) == (1.0, 0.0)
    broken = attempt(("code 2", passed, "timeout"))
    assert last(broken) == answered(broken) == last(attempt()) == answered(attempt(answer=None)) == 0.0


def test_chances_are_shares_of_all_ways_to_draw(make_episode: Make) -> None:
    scores: list[Any] = [3.0, 1.0, 3.0, 2.0, 0.0, 2.0]
    votes: list[Any] = ["a", "b", "b", None, "c", "a"]
    strategies: list[tuple[Strategy, list[Any]]] = [(BestOf(is_right, "x"), scores), (MajorityVote(), votes)]
    for strategy, values in strategies:
        for n in range(1, 7):
            chances = strategy.chances(values, n)
            chosen = [s[strategy.choose([values[i] for i in s])] for s in combinations(range(6), n)]
            assert np.allclose(chances, np.bincount(chosen, minlength=6) / math.comb(6, n), rtol=1e-12)


def test_chances_among_very_many_sets(make_episode: Make) -> None:
    values = ["a"] * 20 + ["b"] * 12
    chances = MajorityVote().chances(values, 9)
    assert chances.sum() == pytest.approx(1.0)
    assert np.array_equal(chances, MajorityVote().chances(values, 9))
    # Hypergeometric: at least 5 of 9 are "a".
    exact = sum(math.comb(20, k) * math.comb(12, 9 - k) for k in range(5, 10)) / math.comb(32, 9)
    assert chances[:20].sum() == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1000))
