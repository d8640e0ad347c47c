"""What the tree of an episode's contexts says."""

from typing import Any

import pytest

from forethought.agents.episode import Episode, Segment, SegmentKind, Turn
from forethought.agents.tree import critical_path, sub_calls, subtree, unused_sub_calls
from forethought.envs.tools import CallResult


def segment(tokens: int, kind: SegmentKind = SegmentKind.ROOT, parent: tuple[int, int] | None = None) -> Segment:
    part = Segment(kind=kind, parent=parent)
    part.give([0])
    part.append_sampled([1] * tokens, [0.0] * tokens)
    return part


def turn(of: int, start: int, end: int, *calls: CallResult, text: str = "") -> Turn:
    return Turn(text=text, observation="", segment=of, start=start, end=end, calls=list(calls))


def ask(output: str = "", **more: Any) -> CallResult:
    return CallResult(name="ask", arguments=more.pop("arguments", {}), output=output, model="self", **more)


def episode(segments: list[Segment], turns: list[Turn]) -> Episode:
    return Episode(id="t/0", task_id="t", attempt=0, env={}, task={}, seed=0, segments=segments, turns=turns)


SUB, AFTER, TRIMMED = SegmentKind.SUB_CALL, SegmentKind.AFTER_SUMMARY, SegmentKind.TRIMMED


def tree() -> Episode:
    """A root (6 + 4 tokens) asks two in its first turn (5, and 3 + 2 + a nested 4); it goes on after a summary (7)."""
    segments = [
        segment(10),
        segment(5, SUB, (0, 7)),
        segment(3, SUB, (0, 7)),
        segment(4, SUB, (2, 4)),
        segment(2, TRIMMED, (2, 4)),
        segment(7, AFTER, (0, 11)),
        segment(6, SUB, (5, 8)),
    ]
    turns = [
        turn(0, 1, 7, ask("Rome", child=1), ask("the river Po", child=2)),
        turn(1, 1, 6),
        turn(2, 1, 4, ask("a", child=3)),
        turn(3, 1, 5, text="a"),
        turn(4, 1, 3, text="the river: Po!"),
        turn(0, 7, 11, text="Romeo by the river Poe"),
        turn(5, 1, 8, ask("Po", child=6), text="by The  River, PO"),
        turn(6, 1, 7),
    ]
    return episode(segments, turns)


def test_of_sub_calls_made_in_one_turn_only_the_longest_is_waited_for() -> None:
    path = critical_path(tree())
    assert path.total == 10 + 5 + 3 + 4 + 2 + 7 + 6
    assert path.tokens == 10 + max(5, 3 + 4 + 2) + 7 + 6


def test_sub_calls_of_different_turns_add_up() -> None:
    one_by_one = episode(
        [segment(4), segment(5, SUB, (0, 3)), segment(6, SUB, (0, 5))],
        [turn(0, 1, 3, ask(child=1)), turn(1, 1, 6), turn(0, 3, 5, ask(child=2)), turn(2, 1, 7)],
    )
    assert critical_path(one_by_one).tokens == critical_path(one_by_one).total == 15


def test_a_frozen_sub_model_is_waited_for_as_well() -> None:
    frozen = CallResult(name="ask", arguments={}, model="big", sampled_tokens=8)
    mixed = episode([segment(4), segment(5, SUB, (0, 5))], [turn(0, 1, 5, ask(child=1, sampled_tokens=5), frozen)])
    assert (critical_path(mixed).tokens, critical_path(mixed).total) == (4 + 8, 4 + 5 + 8)


def test_an_episode_without_sub_calls_is_one_path() -> None:
    plain = episode([segment(4), segment(3, AFTER, (0, 5))], [])
    assert (critical_path(plain).tokens, critical_path(plain).total) == (7, 7)
    assert critical_path(episode([], [])).total == 0


def test_the_subtree_of_a_sub_call_is_all_that_it_led_to() -> None:
    assert subtree(tree(), 2) == [2, 3, 4]
    assert subtree(tree(), 5) == [5, 6]
    assert subtree(tree(), 0) == list(range(7))


def test_sub_calls_are_those_that_were_carried_out() -> None:
    refused = CallResult(name="ask", arguments={}, error="budget")
    found = sub_calls(episode([segment(4)], [turn(0, 1, 3, refused), turn(0, 3, 5, refused, ask(error="tool_error"))]))
    assert [(sub_call.turn, sub_call.number) for sub_call in found] == [(1, 1)]


def test_an_answer_is_used_when_a_later_turn_of_who_asked_repeats_its_words() -> None:
    # "Rome" is not in "Romeo"; the river is named after the summary; "a" is said by the sub-call itself only.
    assert [(u.turn, u.number) for u in unused_sub_calls(tree())] == [(0, 0), (2, 0), (6, 0)]


def test_an_answer_may_be_used_in_an_argument() -> None:
    later = CallResult(name="look", arguments={"key": 'say "Po"\nnow'})
    used = episode([segment(4)], [turn(0, 1, 3, ask('"Po" now')), turn(0, 3, 5, later, text=r'"say \"Po\"\nnow"')])
    assert unused_sub_calls(used) == []


@pytest.mark.parametrize("call", [ask("x", error="tool_error"), ask("?!"), ask(" ".join("abcdefghijklmnopqrst"))])
def test_what_cannot_be_judged_is_not(call: CallResult) -> None:
    assert unused_sub_calls(episode([segment(4)], [turn(0, 1, 5, call)])) == []
