from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator

import pytest

from forethought.agents import Episode, Segment, SegmentKind, Status
from forethought.agents.episode import Turn
from forethought.agents.evaluation import Estimate, ReportCard, compare_runs, make_report_card, pass_rates_of
from forethought.envs.tools import CallResult

Make = Callable[..., Episode]


def _run(make: Make) -> list[Episode]:
    """Tasks of difficulty 0, 1 and 4 with two attempts each, and a fault."""
    return [
        make("easy", 0, think=1, correct=True, difficulty=0),
        make("easy", 1, think=5, correct=True, difficulty=0),
        make("middle", 0, think=2, correct=True, difficulty=1),
        make("middle", 1, think=4, correct=False, difficulty=1),
        make("hard", 0, think=8, correct=False, difficulty=4),
        make("hard", 1, think=6, correct=False, difficulty=4, status=Status.TRUNCATED, stop_reason="turns"),
        make("hard", 2, think=0, correct=False, difficulty=4, status=Status.FAULT, stop_reason="fault", retries=2),
    ]


def test_a_card_by_hand(make_episode: Make) -> None:
    card = make_report_card(_run(make_episode))
    assert (card.tasks, card.episodes, card.attempts, card.faults, card.retries) == (3, 6, 2, 1, 2)
    assert card.statuses == {"completed": 5, "fault": 1, "truncated": 1}
    assert card.stop_reasons == {"answered": 5, "fault": 1, "turns": 1}
    assert card.accuracy.value == card.pass_at[1].value == card.pass_hat[1].value == pytest.approx(0.5)
    assert card.pass_at[2].value == pytest.approx(2 / 3) and card.pass_hat[2].value == pytest.approx(1 / 3)
    assert set(card.pass_at) == {1, 2}
    means = {kind: estimate.value for kind, estimate in card.tokens.items()}
    assert means["think"] == pytest.approx(2 + 26 / 6)
    assert means["sampled"] == means["critical_path"] == pytest.approx(9 + 26 / 6)
    assert means["context"] == pytest.approx(13 + 26 / 6)
    assert (means["plan"], means["answer"], means["other"], means["call"], means["summary"]) == (3, 3, 1, 0, 0)
    assert card.finish_rate.value == pytest.approx(5 / 6)
    assert card.format_error_rate.value == 0 and card.turns.value == 1 and card.seconds.value == 0.5
    assert card.repeated_failure_rate == Estimate()


def test_calibration_by_hand(make_episode: Make) -> None:
    calibration = make_report_card(_run(make_episode)).calibration
    # thoughts 1 5 2 4 8 6 rank 1 4 2 3 6 5, difficulties 0 0 1 1 4 4 rank 1.5 1.5 3.5 3.5 5.5 5.5
    assert calibration.spearman_difficulty.value == pytest.approx(12 / (17.5 * 16) ** 0.5)
    assert calibration.spearman_failure.value == calibration.spearman_difficulty.value
    assert calibration.slope.value == pytest.approx((2 * 0 + 6 * 1 + 14 * 4 - 26 * 10 / 6) / (34 - 100 / 6))
    assert calibration.think_over_ratio.value == pytest.approx((1 + 5 + 2 + 4) / 4)
    # fewest sampled tokens of a right episode: 10 at difficulty 0, 11 at difficulty 1
    assert calibration.over_ratio.value == pytest.approx((1 + 14 / 10 + 1 + 13 / 11) / 4)


def test_an_oracle_says_what_is_needed(make_episode: Make) -> None:
    oracle = make_report_card([make_episode(str(n), 0, think=n, correct=True, difficulty=n) for n in (0, 1)])
    assert oracle.calibration.think_over_ratio.value == 1.0
    card = make_report_card(_run(make_episode), oracle=oracle)
    assert card.calibration.over_ratio.value == pytest.approx((10 / 9 + 14 / 9 + 11 / 10 + 13 / 10) / 4)


def test_levels(make_episode: Make) -> None:
    levels = make_report_card(_run(make_episode)).by_difficulty
    assert [(level.difficulty, level.tasks, level.episodes) for level in levels] == [(0, 1, 2), (1, 1, 2), (4, 1, 2)]
    assert [level.accuracy.value for level in levels] == [1, 0.5, 0]
    assert [level.think_tokens.value for level in levels] == [3, 3, 7]
    assert [level.sampled_tokens.value for level in levels] == [12, 12, 16]
    assert [level.fewest_right for level in levels] == [10, 11, None]


def test_many_difficulties_become_tenths(make_episode: Make) -> None:
    episodes = [make_episode(str(i), 0, think=i, correct=True, difficulty=i / 7) for i in range(100)]
    levels = make_report_card(episodes).by_difficulty
    assert [level.episodes for level in levels] == [10] * 10
    assert levels[0].difficulty == pytest.approx(4.5 / 7)


def test_tasks_without_a_difficulty_have_no_calibration_against_it(make_episode: Make) -> None:
    unknown = [make_episode(f"u{i}", 0, think=i, correct=i % 2 == 0, difficulty=None) for i in range(4)]
    card = make_report_card(unknown)
    assert card.by_difficulty == () and card.calibration.slope == Estimate()
    assert card.calibration.spearman_failure.value is not None
    both = make_report_card([*_run(make_episode), *unknown])
    assert both.calibration.slope.value == make_report_card(_run(make_episode)).calibration.slope.value
    assert [level.episodes for level in both.by_difficulty] == [2, 2, 2]


def test_pass_rates_of_another_run(make_episode: Make) -> None:
    rates = pass_rates_of(_run(make_episode))
    assert rates == {"easy": 1.0, "middle": 0.5, "hard": 0.0}
    later = [make_episode(task, 0, think=t, correct=True) for task, t in (("easy", 1), ("middle", 2), ("hard", 3))]
    assert make_report_card(later).calibration.spearman_failure.value is None
    assert make_report_card(later, pass_rates=rates).calibration.spearman_failure.value == pytest.approx(1.0)


def test_calls(make_episode: Make, failed_calls: list[CallResult]) -> None:
    turns = [
        Turn(text="t", observation="o", segment=0, start=4, end=10, calls=failed_calls[:2]),
        Turn(text="t", observation="o", segment=0, start=10, end=13, calls=failed_calls[2:], error="unfinished"),
    ]
    card = make_report_card([make_episode("a", 0, think=0, correct=True, turns=turns)])
    assert (card.tool_calls.value, card.failed_calls.value) == (4, 3)
    assert card.repeated_failure_rate.value == pytest.approx(1 / 3)
    assert card.format_error_rate.value == 0.5


def test_the_critical_path_takes_the_longest_of_the_sub_calls_of_a_turn(make_episode: Make) -> None:
    def segment(kind: SegmentKind, parent: tuple[int, int] | None, sampled: int) -> Segment:
        return Segment(kind=kind, parent=parent, sampled=[1] * sampled, token_ids=[0] * sampled)

    episode = make_episode("a", 0, think=0, correct=True)
    episode.segments = [
        segment(SegmentKind.ROOT, None, 20),
        segment(SegmentKind.SUB_CALL, (0, 8), 7),  # first turn, beside the next
        segment(SegmentKind.SUB_CALL, (0, 10), 5),
        segment(SegmentKind.SUB_CALL, (0, 20), 3),  # second turn
        segment(SegmentKind.SUB_CALL, (2, 5), 4),  # inside the second sub-call: 5 + 4 is the longest
        segment(SegmentKind.AFTER_SUMMARY, (0, 20), 11),
    ]
    episode.turns = [
        Turn(text="", observation="", segment=0, start=0, end=10),
        Turn(text="", observation="", segment=0, start=10, end=20),
    ]
    tokens = make_report_card([episode]).tokens
    assert tokens["critical_path"].value == 20 + 9 + 3 + 11
    assert tokens["sampled"].value == 50


def test_correct_is_the_reward_where_there_is_no_such_score(make_episode: Make) -> None:
    episodes = [
        make_episode(str(i), 0, think=1, correct=False, scores={"f1": r}, reward=r) for i, r in enumerate((0.5, 1.0))
    ]
    card = make_report_card(episodes)
    assert card.accuracy.value == 0.5 and card.scores["f1"].value == 0.75


def test_a_card_survives_json(make_episode: Make) -> None:
    for card in (make_report_card(_run(make_episode)), make_report_card([]), ReportCard()):
        text = json.dumps(card.to_dict(), allow_nan=False)
        again = ReportCard.from_dict(json.loads(text))
        assert again == card and json.dumps(again.to_dict()) == text
    with pytest.raises(ValueError, match="forethought/report-card/1"):
        ReportCard.from_dict({"schema": "forethought/report-card/9"})


def test_a_run_of_faults_is_a_card_without_numbers(make_episode: Make) -> None:
    card = make_report_card([make_episode("a", 0, think=0, correct=False, status=Status.FAULT)])
    assert card.faults == 1 and card.episodes == 0 and card.accuracy == Estimate()


def test_episodes_are_not_kept(make_episode: Make) -> None:
    class Kept(Episode):
        __slots__ = ("__weakref__",)
        __hash__ = object.__hash__

    alive: weakref.WeakSet[Kept] = weakref.WeakSet()
    most = 0

    def episodes() -> Iterator[Episode]:
        nonlocal most
        for i in range(50):
            source = make_episode(str(i), 0, think=i % 5, correct=True, difficulty=i % 3)
            episode = Kept(**{name: getattr(source, name) for name in Episode.__slots__})
            alive.add(episode)
            yield episode
            del episode
            gc.collect()
            most = max(most, len(alive))

    assert make_report_card(episodes()).episodes == 50
    assert most <= 2


def test_comparing_two_runs(make_episode: Make) -> None:
    before = [make_episode(str(i), a, think=9, correct=False) for i in range(6) for a in range(2)]
    after = [make_episode(str(i), a, think=4, correct=a == 0) for i in range(1, 7) for a in range(2)]
    comparison = compare_runs(before, after)
    assert comparison["accuracy"].tasks == 5
    assert comparison["accuracy"].difference.value == 0.5 and comparison["accuracy"].p_value == 2 / 32
    assert comparison["sampled_tokens"].difference.value == -5
    with pytest.raises(ValueError, match="no task in common"):
        compare_runs(before[:2], after[-2:])
