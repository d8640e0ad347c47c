from __future__ import annotations

import pytest

from forethought.agents import Episode
from forethought.agents.episode import Segment, Status
from forethought.trainers.rewards import LengthPenalty


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
