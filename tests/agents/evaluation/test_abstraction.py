from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from forethought.agents import Episode, Segment, SegmentKind, Status
from forethought.agents.episode import Turn
from forethought.agents.evaluation.abstraction import measure
from forethought.envs.tools import CallResult


def ask(task: str, answer: str = "", **fields: Any) -> CallResult:
    return CallResult(name="ask", arguments={"task": task}, output=answer, model="self", **fields)


def look_up(question: str) -> CallResult:
    return CallResult(name="look_up", arguments={"question": question}, output="x")


def said(text: str = "", calls: Sequence[CallResult] = (), segment: int = 0, start: int = 0) -> Turn:
    """A turn of one token."""
    return Turn(text=text, observation="", segment=segment, start=start, end=start + 1, calls=list(calls))


def episode(
    turns: Sequence[Turn],
    segments: Sequence[Segment] | None = None,
    correct: float = 1.0,
    **metadata: Any,
) -> Episode:
    return Episode(
        id="t/0", task_id="t", attempt=0, env={}, seed=0, scores={"correct": correct}, turns=list(turns),
        segments=list(segments or [context(len(turns))]),
        task={"id": "t", "prompt": "?", "answer": "a", "aliases": [], "difficulty": None, "metadata": metadata},
    )  # fmt: skip


def context(sampled: int, kind: SegmentKind = SegmentKind.ROOT, parent: tuple[int, int] | None = None) -> Segment:
    return Segment(kind=kind, parent=parent, token_ids=[0] * sampled, sampled=[1] * sampled, logprobs=[0.0] * sampled)


def test_an_episode_without_calls() -> None:
    assert measure(episode([said("42")])) == {
        "sub_calls": (0, 1), "critical_share": (1, 1), "duplicate_calls": (0, 0),
    }  # fmt: skip


def test_sub_calls_of_one_turn_are_parallel_other_calls_do_not_count() -> None:
    turns = [said(calls=[ask("a"), ask("b"), look_up("c")], start=0), said(calls=[ask("d"), look_up("e")], start=1)]
    assert measure(episode(turns))["parallel_ratio"] == (2, 3)


def test_a_call_is_a_duplicate_within_its_context_only() -> None:
    segments = [context(2), context(1, SegmentKind.SUB_CALL, (0, 1))]
    turns = [
        said(calls=[look_up("a"), look_up("b")], start=0),
        said(calls=[look_up("a")], segment=1),
        said(calls=[look_up("a"), look_up("c")], start=1),
    ]
    assert measure(episode(turns, segments))["duplicate_calls"] == (1, 5)


def test_a_context_goes_on_after_a_summary() -> None:
    segments = [context(1), context(1, SegmentKind.AFTER_SUMMARY, (0, 1))]
    turns = [said(calls=[ask("a", "E7")]), said("E7", calls=[look_up("b")], segment=1)]
    metrics = measure(episode(turns, segments, structure="chained"))
    assert metrics["unused_results"] == (0, 1)
    assert metrics["parallel_ratio_chained"] == (0, 2)
    assert metrics["duplicate_calls"] == (0, 2)


@pytest.mark.parametrize(("later", "unused"), [("<answer> E7 </answer>", 0), ("<answer> E71 XE7 </answer>", 1)])
def test_an_answer_is_used_when_a_later_turn_repeats_it(later: str, unused: int) -> None:
    turns = [said("E7", [ask("a", "E7")]), said(later, start=1)]
    assert measure(episode(turns))["unused_results"] == (unused, 1)


def test_failed_sub_calls() -> None:
    turns = [said(calls=[ask("a", "E7"), ask("b", "Error: no answer", error="tool_error")]), said("E7 Error", start=1)]
    metrics = measure(episode(turns))
    assert metrics["failed_sub_calls"] == (1, 2)
    assert metrics["unused_results"] == (0, 1)


def test_of_side_by_side_sub_calls_the_longest_is_on_the_critical_path() -> None:
    segments = [context(2), context(5, SegmentKind.SUB_CALL, (0, 1)), context(7, SegmentKind.SUB_CALL, (0, 1))]
    turns = [said(calls=[ask("a"), ask("b")]), said(segment=1), said(segment=2), said(start=1)]
    metrics = measure(episode(turns, segments, oracle_critical_tokens=6))
    assert metrics["critical_share"] == (9, 14)
    assert metrics["critical_over_oracle"] == (9, 6)


def test_a_wrong_answer_is_not_compared_with_the_oracle() -> None:
    assert "critical_over_oracle" not in measure(episode([said()], correct=0.0, oracle_critical_tokens=6))


@pytest.mark.parametrize(("structure", "reported"), [("independent", True), ("chained", True), ("mixed", False)])
def test_on_known_tasks_every_call_of_the_own_context_counts(structure: str, reported: bool) -> None:
    segments = [context(2), context(1, SegmentKind.SUB_CALL, (0, 1))]
    turns = [
        said(calls=[ask("a"), look_up("b")]),
        said(calls=[look_up("x"), look_up("y")], segment=1),
        said(calls=[look_up("c")], start=1),
    ]
    metrics = measure(episode(turns, segments, structure=structure))
    assert metrics.get(f"parallel_ratio_{structure}") == ((2, 3) if reported else None)


def test_a_fault_says_nothing() -> None:
    assert measure(replace(episode([said()]), status=Status.FAULT)) == {}
