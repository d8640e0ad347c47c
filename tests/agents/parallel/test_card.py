from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from forethought.agents import Episode, EpisodeStore, ModelAgent, Status, replay_episode
from forethought.agents.evaluation import evaluate
from forethought.agents.parallel import (
    STRATEGIES,
    BestOf,
    MajorityVote,
    ParallelCard,
    ParallelError,
    Spent,
    grade_parallel,
    is_right,
    solve_in_parallel,
)
from forethought.agents.text_model import Prices

from .conftest import SPEC, TASKS, Guesser, is_close

Make = Callable[..., Episode]
Guess = Callable[..., ModelAgent]


@pytest.fixture
async def run(tmp_path: Path, guesser: Guess) -> Path:
    """Eight attempts at each of 60 tasks, each right with probability 0.6."""
    await evaluate(SPEC, guesser(0.6), TASKS, attempts=8, seed=3, folder=tmp_path)
    return tmp_path


async def test_the_oracle_is_pass_at_n(tmp_path: Path, guesser: Guess) -> None:
    report = await evaluate(SPEC, guesser(0.3), TASKS, attempts=8, seed=3, folder=tmp_path)
    card = grade_parallel(EpisodeStore(tmp_path), [BestOf(is_right, "oracle")], seed=3)
    assert [level.attempts for level in card.levels["oracle"]] == [1, 2, 4, 8]
    for level in card.levels["oracle"]:
        expected = report.pass_at[level.attempts]
        assert is_close(level.accuracy.value, expected.value)
        assert is_close(level.accuracy.low, expected.low) and is_close(level.accuracy.high, expected.high)


async def test_voting_beats_a_single_attempt_where_errors_are_independent(run: Path) -> None:
    levels = grade_parallel(EpisodeStore(run), [MajorityVote()]).levels["vote"]
    one, *_, eight = (level.accuracy for level in levels)
    assert one.value == pytest.approx(0.6, abs=0.08)
    assert one.high is not None and eight.low is not None and eight.low > one.high
    assert eight.value is not None and eight.value > 0.95


async def test_attempts_are_ordinary_episodes(run: Path) -> None:
    episodes = list(EpisodeStore(run))
    assert len(episodes) == 480
    for episode in episodes[::40]:
        assert await replay_episode(episode) == []


async def test_the_card_depends_on_the_episodes_alone(run: Path) -> None:
    strategies = [make() for make in STRATEGIES.values()]
    episodes = list(EpisodeStore(run))
    card = grade_parallel(episodes, strategies)
    random.Random(0).shuffle(episodes)
    assert grade_parallel(episodes, strategies) == card
    for choices in card.choices.values():
        assert [choice.task_id for choice in choices] == sorted(task.id for task in TASKS)


async def test_costs_add_up(run: Path) -> None:
    prices = Prices(input=2.0, output=10.0)
    extra = {"": {f"{TASKS[0].id}/0": Spent(sampled_tokens=80, critical_tokens=1000, cost=1.0)}}
    extra["vote"] = {f"{TASKS[0].id}/1": Spent(cost=0.25), f"{TASKS[0].id}/0": Spent(cost=0.5)}
    card = grade_parallel(EpisodeStore(run), [MajorityVote(), BestOf(is_right, "oracle")], prices=prices, extra=extra)
    by_task: dict[str, list[Episode]] = {}
    for episode in EpisodeStore(run):
        by_task.setdefault(episode.task_id, []).append(episode)
    for name, choices in card.choices.items():
        for choice in choices:
            first = choice.task_id == TASKS[0].id
            episodes = by_task[choice.task_id]
            sampled = [episode.sampled_tokens() for episode in episodes]
            read = sum(episode.usage["context_tokens"] for episode in episodes) - sum(sampled)
            assert choice.sampled_tokens == sum(sampled) + 80 * first
            assert first or choice.critical_tokens == max(sampled)
            money = (2 * read + 10 * sum(sampled)) / 1e6 + (1.75 if name == "vote" else 1.0) * first
            assert choice.cost == pytest.approx(money)
        one, *_, eight = card.levels[name]
        assert is_close(eight.sampled_tokens.value, sum(c.sampled_tokens for c in choices) / 60)
        assert is_close(eight.critical_tokens.value, sum(c.critical_tokens for c in choices) / 60)
        assert is_close(eight.cost.value, sum(c.cost for c in choices) / 60)
        assert one.sampled_tokens.value == pytest.approx((eight.sampled_tokens.value or 0) / 8)
        assert one.critical_tokens.value == pytest.approx(one.sampled_tokens.value, abs=1000 / 8)
        assert eight.accuracy.value == pytest.approx(sum(c.correct for c in choices) / 60)


def test_a_card_by_hand(make_episode: Make) -> None:
    episodes = [
        make_episode("t", 0, "b", tokens=1, usage={"context_tokens": 6, "cost": 0.5}),
        make_episode("t", 1, "a", tokens=7),
        make_episode("t", 2, "a", tokens=4),
        make_episode("t", 3, "a", tokens=50, status=Status.FAULT),
        make_episode("u", 1, "b"),
        make_episode("u", 0, None),
    ]
    card = grade_parallel(episodes, [MajorityVote()])
    assert (card.tasks, card.faults) == (2, 1)
    one, two, three = card.levels["vote"]
    assert [(level.attempts, level.tasks) for level in (one, two, three)] == [(1, 2), (2, 2), (3, 1)]
    assert is_close(one.accuracy.value, 1 / 3)  # two of three, none of two
    # Of the pairs of t: (b, a) ties, the first counts; (a, a) is right.
    assert is_close(two.accuracy.value, 1 / 6)
    assert three.accuracy.value == 1.0
    assert is_close(two.sampled_tokens.value, (2 / 3 * (3 + 9 + 6) + 4) / 2)
    assert is_close(two.critical_tokens.value, ((9 + 6 + 9) / 3 + 2) / 2)
    assert is_close(one.cost.value, 0.5 / 3 / 2)
    t, u = card.choices["vote"]
    assert (t.chosen, t.answer, t.correct, t.attempts) == ("t/1", "a", True, 3)
    assert (t.sampled_tokens, t.critical_tokens, t.cost) == (18, 9, 0.5)
    assert (u.chosen, u.answer, u.correct, u.reward) == ("u/1", "b", False, 0.0)


def test_the_table_and_the_file(make_episode: Make, tmp_path: Path) -> None:
    episodes = [make_episode("t", i, "a") for i in range(2)] + [make_episode("u", i, "b") for i in range(2)]
    card = grade_parallel(episodes, [MajorityVote()])
    lines = card.table().splitlines()
    assert lines[0].split() == ["strategy", "attempts", "accuracy", "95", "%", "tokens", "critical", "path", "cost"]
    assert lines[2].split()[:3] == ["vote", "2", "0.500"] and lines[2].split()[-3:] == ["4.0", "2.0", "0"]
    assert len({len(line) for line in lines}) == 1
    card.write(tmp_path)
    data = json.loads((tmp_path / "parallel.json").read_text())
    assert data == json.loads(json.dumps(card.to_dict())) and data["schema"] == "forethought/parallel/1"
    assert data["choices"]["vote"][0]["chosen"] == "t/0"


def test_nothing_to_grade(make_episode: Make) -> None:
    fault = make_episode("t", 0, None, status=Status.FAULT)
    assert grade_parallel([fault], [MajorityVote()]) == ParallelCard(faults=1)
    for strategies in ([], [MajorityVote(), MajorityVote()]):
        with pytest.raises(ValueError, match="expected strategies with names that differ"):
            grade_parallel([fault], strategies)


async def test_one_task_in_parallel(guesser: Guess) -> None:
    choice, episodes = await solve_in_parallel(SPEC, guesser(0.6), TASKS[5], MajorityVote(), attempts=9, seed=1)
    assert [episode.attempt for episode in episodes] == list(range(9))
    assert len({episode.answer for episode in episodes}) > 1
    assert (choice.correct, choice.answer, choice.attempts) == (True, TASKS[5].answer, 9)
    assert choice.sampled_tokens == sum(episode.sampled_tokens() for episode in episodes)
    again = await solve_in_parallel(
        SPEC, guesser(0.6), TASKS[5], MajorityVote(), attempts=9, seed=1, concurrency=2
    )  # fmt: skip
    assert again[0] == choice


async def test_one_task_without_an_engine(guesser: Guess) -> None:
    agent = guesser(0.6)
    assert isinstance(agent.engine, Guesser)
    agent.engine.down_for = {TASKS[5].prompt.split()[-3]}
    with pytest.raises(ParallelError, match=r"all 3 attempts ended in a fault: .*the engine is gone"):
        await solve_in_parallel(SPEC, agent, TASKS[5], MajorityVote(), attempts=3)
