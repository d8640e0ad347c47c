from __future__ import annotations

from typing import Any

import pytest

from forethought.agents import Episode
from forethought.agents.episode import Segment, SegmentKind, Status, Turn
from forethought.envs.tools import CallResult
from forethought.trainers.rewards import (
    SHAPINGS,
    DelegationBonus,
    LatencyBonus,
    LengthPenalty,
    RandomReward,
    ShuffledRewards,
)


def episode(correct: float, tokens: int, reward: float | None = None, status: Status = Status.COMPLETED) -> Episode:
    segment = Segment()
    segment.give([1, 2, 3])
    segment.append_sampled([4] * tokens, [0.0] * tokens)
    return Episode(
        id="t/0", task_id="t", attempt=0, env={}, task={}, seed=0, segments=[segment],
        scores={} if status is Status.FAULT else {"correct": correct},
        reward=correct if reward is None else reward, status=status,
    )  # fmt: skip


def test_tokens_cost_in_proportion_to_the_pass_rate() -> None:
    shape = LengthPenalty(weight=0.5, max_tokens=20)
    group = [episode(1, 10), episode(1, 4), episode(0, 20), episode(1, 8)]
    # pass rate 3/4: each token of a correct episode costs 0.5 * 0.75 / 20.
    assert shape(group, 4) == pytest.approx([1 - 10 * 0.01875, 1 - 4 * 0.01875, 0.0, 1 - 8 * 0.01875])


def test_the_price_never_falls_below_one_success_in_the_group() -> None:
    faults = [episode(0, 0, status=Status.FAULT)] * 2
    rewards = LengthPenalty(weight=1.0, max_tokens=10)([episode(1, 5), episode(0, 5), *faults], 4)
    assert rewards[:2] == pytest.approx([1 - 5 / 10 * 1 / 2, 0.0])
    hard = [episode(0, 9)] * 7 + [episode(1, 4)]
    assert LengthPenalty(weight=1.0, max_tokens=10)(hard, 8) == pytest.approx([0.0] * 7 + [1 - 4 / 10 / 8])


def test_groups_do_not_touch_each_other() -> None:
    easy, hard = [episode(1, 10), episode(1, 10)], [episode(0, 10), episode(1, 10)]
    rewards = LengthPenalty(weight=1.0, max_tokens=20)(easy + hard, 2)
    assert rewards == pytest.approx([0.5, 0.5, 0.0, 0.75])


def test_wrong_episodes_keep_their_reward_whatever_their_length() -> None:
    group = [episode(0.5, 3, reward=0.5), episode(0, 300, reward=-1.0), episode(1, 0), episode(0, 1)]
    assert LengthPenalty(weight=1.0, max_tokens=10)(group, 4) == [0.5, -1.0, 1.0, 0.0]


def test_every_segment_counts() -> None:
    long = episode(1, 2)
    long.segments.append(episode(1, 3).segments[0])
    assert LengthPenalty(weight=1.0, max_tokens=10)([long], 1) == pytest.approx([0.5])


def test_it_begins_when_the_accuracy_is_reached_and_stays_on() -> None:
    shape = LengthPenalty(weight=1.0, max_tokens=10, start_accuracy=0.5)
    bad, good = [episode(1, 5), episode(0, 5), episode(0, 5), episode(0, 5)], [episode(1, 5), episode(0, 5)] * 2
    assert shape(bad, 4) == [1.0, 0.0, 0.0, 0.0] and not shape.active
    assert shape(good, 4) == pytest.approx([0.75, 0.0, 0.75, 0.0]) and shape.active
    assert shape(bad, 4) == pytest.approx([1 - 0.5 * 0.25, 0.0, 0.0, 0.0])


def test_a_batch_of_faults_begins_nothing() -> None:
    shape = LengthPenalty(weight=1.0, max_tokens=10, start_accuracy=0.5)
    shape([episode(0, 0, status=Status.FAULT)] * 4, 4)
    assert not shape.active


def test_groups_must_be_whole() -> None:
    with pytest.raises(ValueError, match="whole groups of 4"):
        LengthPenalty(weight=1.0, max_tokens=10)([episode(1, 1)] * 6, 4)


def delegating(correct: float, own: int, *children: int, failed: int = 0, **more: Any) -> Episode:
    """An episode that asked itself for some parts in one turn, and for `failed` more in vain; tokens of each."""
    whole = episode(correct, own, **more)
    calls = []
    for tokens in children:
        part = episode(1, tokens).segments[0]
        part.kind, part.parent = SegmentKind.SUB_CALL, (0, 3 + own)
        calls.append(CallResult(name="ask", arguments={}, output="a", model="self", child=len(whole.segments)))
        whole.segments.append(part)
    calls += [CallResult(name="ask", arguments={}, error="tool_error", model="big")] * failed
    whole.turns = [Turn(text="", observation="", segment=0, start=3, end=3 + own, calls=calls)]
    return whole


def test_less_waiting_is_paid_for_in_successes_up_to_the_cap() -> None:
    shape = LatencyBonus(weight=0.5, cap=0.2)
    serial, mixed, parallel = delegating(1, 20), delegating(1, 10, 9, 1), delegating(1, 2, 9, 9)
    wrong = delegating(0, 2, 9, 9, reward=0.25)
    # L_crit / L_total: 20 / 20, 19 / 20, 11 / 20.
    assert shape([serial, mixed, parallel, wrong], 4) == pytest.approx([1, 1 + 0.5 * 0.05, 1 + 0.5 * 0.2, 0.25])
    assert shape([delegating(1, 20, reward=0.8), episode(1, 0)], 2) == [0.8, 1.0]


def test_a_bonus_for_delegating_goes_away() -> None:
    shape = DelegationBonus(weight=0.4, anneal_steps=10, sub_calls=2)
    group = [delegating(1, 5), delegating(0, 5, 3), delegating(0, 5, 3, 3, 3), delegating(0, 5, 3, failed=3)]
    assert shape(group, 4, 0) == pytest.approx([1.0, 0.2, 0.4, 0.2])
    assert shape(group, 4, 5) == pytest.approx([1.0, 0.1, 0.2, 0.1])
    assert shape(group, 4, 10) == shape(group, 4, 1000) == [1.0, 0.0, 0.0, 0.0]


def test_a_constant_bonus_stays() -> None:
    shape = DelegationBonus(weight=0.4)
    assert shape([delegating(0, 5, 3)], 1, 10**6) == [0.4]


def test_random_rewards_say_nothing_and_repeat() -> None:
    group = [episode(i % 2, 3) for i in range(4000)]
    rewards = RandomReward(probability=0.25, seed=1)(group, 4, 7)
    assert set(rewards) == {0.0, 1.0}
    assert sum(rewards) == pytest.approx(1000, abs=120)
    assert sum(rewards[1::2]) == pytest.approx(500, abs=90)
    assert rewards == RandomReward(probability=0.25, seed=1)(group, 4, 7)
    assert rewards != RandomReward(probability=0.25, seed=1)(group, 4, 8)
    assert rewards != RandomReward(probability=0.25, seed=2)(group, 4, 7)


def test_shuffled_rewards_stay_in_their_group() -> None:
    shape = ShuffledRewards(seed=3)
    fault = episode(0, 0, reward=9.0, status=Status.FAULT)
    group = [*(episode(1, 1, reward=float(i)) for i in range(7)), fault]
    other = [episode(1, 1, reward=10.0 + i) for i in range(8)]
    rewards = shape(group + other, 8, 0)
    assert sorted(rewards[:7]) == [float(i) for i in range(7)]
    assert sorted(rewards[8:]) == [10.0 + i for i in range(8)]
    assert rewards[:7] != [float(i) for i in range(7)]
    assert rewards == shape(group + other, 8, 0) != shape(group + other, 8, 1)
    with pytest.raises(ValueError, match="whole groups of 4"):
        shape(group[:6], 4)


def test_every_shaping_has_a_name_in_the_order_of_application() -> None:
    assert list(SHAPINGS.values()) == [LatencyBonus, LengthPenalty, DelegationBonus, RandomReward, ShuffledRewards]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LengthPenalty(weight=1.0, max_tokens=0), "max_tokens"),
        (lambda: LatencyBonus(cap=-0.1), "cap"),
        (lambda: DelegationBonus(weight=1.0, anneal_steps=0), "anneal_steps"),
        (lambda: DelegationBonus(weight=1.0, sub_calls=0), "sub_calls"),
        (lambda: RandomReward(probability=1.1), "probability"),
    ],
)
def test_says_what_makes_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
