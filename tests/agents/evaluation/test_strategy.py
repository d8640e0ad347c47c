from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from forethought.agents import Episode, Segment, Status
from forethought.agents.agent import ScriptedAgent
from forethought.agents.env_spec import EnvSpec
from forethought.agents.episode import PlanVersion, SegmentKind, Turn
from forethought.agents.evaluation.strategy import measure
from forethought.agents.rollout import EpisodeRequest
from forethought.agents.rollouts import collect_rollouts
from forethought.envs.detour.scripts import careless, naive, oracle
from forethought.envs.tools import CallResult

FACTS = {
    "routes": [["R1", "R2"], ["R3", "R4", "R5"]],
    "broken": [0],
    "contradictions": [{"name": "look_up", "arguments": {"relation": "R2"}, "output": "E9 T9"}],
    "oracle_calls": 3,
}


def call(relation: str, output: str = "E1 T1", step: int | None = None, **changes: Any) -> CallResult:
    error = "tool_error" if output == "nil" else None
    arguments = {"relation": relation, "entity": "E0"}
    return CallResult(
        **{"name": "look_up", "arguments": arguments, "output": output, "error": error, "step": step} | changes
    )


def episode(*moves: tuple[str, list[CallResult]], facts: dict[str, Any] | None = None, **changes: Any) -> Episode:
    """An episode of turns, each with the relations of a new plan (or none) and its calls."""
    fields: dict[str, Any] = {
        "id": "t/0",
        "task_id": "t",
        "attempt": 0,
        "env": {"id": "x", "version": "1", "kwargs": {}},
        "task": {"id": "t", "prompt": "?", "answer": "a", "metadata": FACTS if facts is None else facts},
        "seed": 0,
        "segments": [Segment()],
        "turns": [Turn(text="", observation="", segment=0, start=0, end=0, calls=calls) for _, calls in moves],
        "plans": [
            PlanVersion(turn=n, steps=[{"number": i, "text": t, "after": []} for i, t in enumerate(plan.split(), 1)])
            for n, (plan, _) in enumerate(moves)
            if plan
        ],
        "scores": {"correct": 1.0},
        "stop_reason": "answered",
    }
    return Episode(**{**fields, **changes})


RECOVERED: tuple[tuple[str, list[CallResult]], ...] = (
    ("R1 R2", [call("R1", step=1)]),
    ("", [call("R2", "E9 T9", step=2)]),
    ("R3 R4 R5", [call("R3", step=1)]),
    ("", [call("R4", step=2)]),
    ("", [call("R5", step=3)]),
    ("", []),
)
"""A trap at the second hop, noticed at once."""


def test_a_recovery_from_a_trap() -> None:
    assert measure(episode(*RECOVERED)) == {
        "plan_validity": (2, 2),
        "adherence": (5, 5),
        "adherence_by_step": (5, 5),
        "replan_precision": (1, 1),
        "replan_recall": (1, 1),
        "detection_delay": (1, 1),
        "recovery": (1, 1),
        "repeated_failures": (0, 1),
        "call_regret": (2, 1),
        "loop_rate": (0, 1),
    }


def test_repeating_a_failed_call_is_counted_and_delays_the_new_plan() -> None:
    found = measure(
        episode(
            ("R1 R2", [call("R1", "nil")]),
            ("", [call("R1", "nil")]),
            ("", [call("R1", "nil")]),
            ("R3 R4 R5", [call("R3")]),
            ("", []),
            scores={"correct": 0.0},
        )
    )
    assert found["repeated_failures"] == (2, 3)
    assert found["replan_recall"] == (1, 3)
    assert found["replan_precision"] == (1, 1)
    assert found["detection_delay"] == (3, 1)
    assert found["loop_rate"] == (1, 1)
    assert found["recovery"] == (0, 1)
    assert "call_regret" not in found


def test_a_needless_plan_costs_precision_and_the_same_plan_again_is_none() -> None:
    found = measure(
        episode(
            ("R1 R2", [call("R1")]),
            ("R1 R2", [call("R2")]),
            ("R3 R4 R5", [call("R3")]),
            ("", []),
            facts=FACTS | {"broken": []},
        )
    )
    assert found["replan_precision"] == (0, 1)
    assert found["replan_recall"] == (0, 0)
    assert found["replans_unbroken"] == (1, 1)
    assert "recovery" not in found


def test_a_contradiction_in_the_last_turn_asks_for_nothing() -> None:
    assert measure(episode(("R1 R2", [call("R1", "nil")])))["replan_recall"] == (0, 0)


def test_giving_up_is_a_contradiction_without_a_new_plan() -> None:
    assert measure(episode(("R1 R2", [call("R1", "nil")]), ("", [])))["replan_recall"] == (0, 1)


def test_an_exhausted_budget_contradicts_nothing() -> None:
    found = measure(episode(("R1 R2", [call("R1", error="budget")]), ("", [])))
    assert found["repeated_failures"] == (0, 0)


@pytest.mark.parametrize(
    ("relations", "carried_out"),
    [("R1 R2", 2), ("R2 R1", 1), ("R1 R9 R1 R2", 2), ("R7", 0), ("R2 R1 R2", 2), ("", 0)],
)
def test_adherence_is_the_longest_common_subsequence(relations: str, carried_out: int) -> None:
    calls = [call(r) for r in relations.split()]
    assert measure(episode(("R1 R2", calls)))["adherence"] == (carried_out, 2)


def test_a_step_said_twice_can_be_carried_out_twice() -> None:
    assert measure(episode(("R1 R2 R1", [call("R1"), call("R2"), call("R1")])))["adherence"] == (3, 3)


def test_a_plan_in_sentences_is_read_by_the_steps_that_it_names() -> None:
    made = episode(("R1 R2", [call("R1"), call("R2")]))
    for step, text in zip(made.plans[0].steps, ("Look up `R1` from E0.", "then R2"), strict=True):
        step["text"] = text
    found = measure(made)
    assert found["plan_validity"] == (1, 1)
    assert found["adherence"] == (2, 2)
    made.plans[0].steps[1]["text"] = "R2 or R1"
    assert measure(made)["plan_validity"] == (0, 1)


def test_of_a_plan_that_was_contradicted_the_rest_is_not_due() -> None:
    assert measure(episode(("R3 R4 R5", [call("R3"), call("R4", "nil")])))["adherence"] == (2, 2)
    assert measure(episode(("R3 R4 R5", [call("R3"), call("R5", "nil")])))["adherence"] == (2, 3)


def test_steps_named_by_number_need_no_metadata() -> None:
    moves = ("find it read it", [call("R1", step=1), call("R2", step=3), call("R2", step=2)])
    found = measure(episode(moves, facts={}))
    assert found["adherence_by_step"] == (2, 4)
    assert not found.keys() & {"adherence", "plan_validity", "recovery", "call_regret", "replans_unbroken"}


def test_without_plans_the_first_call_tells_the_first_route() -> None:
    bare = measure(episode(("", [call("R1", "nil")]), ("", [call("R3")])))
    assert bare["recovery"] == (1, 1)
    assert not bare.keys() & {"replan_precision", "replan_recall", "detection_delay"}
    assert "recovery" not in measure(episode(("", [call("R3")])))
    assert "recovery" not in measure(episode(("", [])))


def test_a_sub_task_is_a_line_of_its_own_and_a_summary_goes_on() -> None:
    segments = [
        Segment(),
        Segment(kind=SegmentKind.AFTER_SUMMARY, parent=(0, 5)),
        Segment(kind=SegmentKind.SUB_CALL, parent=(1, 5)),
    ]
    moves = (
        ("R1 R2", [call("R1", "nil")]),
        ("R9", [call("R9", "nil")]),
        ("R3 R4 R5", [call("R3")]),
    )
    for line, recall in (([0, 2, 1], (1, 1)), ([0, 1, 1], (2, 2))):
        made = episode(*moves, segments=segments)
        for turn, segment in zip(made.turns, line, strict=True):
            turn.segment = segment
        assert measure(made)["replan_recall"] == recall


def test_a_fault_says_nothing() -> None:
    assert measure(episode(status=Status.FAULT)) == {}


def test_a_loop_that_ended_the_episode_is_one() -> None:
    assert measure(episode(stop_reason="loop"))["loop_rate"] == (1, 1)


def rates(script: Any, **kwargs: Any) -> dict[str, float]:
    spec = EnvSpec(id="forethought/Detour-v0", kwargs=kwargs)
    tasks = spec.make().tasks
    requests = [EpisodeRequest(task=tasks[i], seed=i) for i in range(400)]
    episodes = asyncio.run(collect_rollouts(requests, spec, ScriptedAgent(script), concurrency=8))
    top: dict[str, float] = defaultdict(float)
    bottom: dict[str, float] = defaultdict(float)
    for made in episodes:
        for name, (numerator, denominator) in measure(made).items():
            top[name] += numerator
            bottom[name] += denominator
    return {name: top[name] / bottom[name] for name in top if bottom[name]}


def test_the_oracle_shows_perfect_strategy() -> None:
    found = rates(oracle, broken=0.6)
    assert found.pop("detection_delay") == 1.0
    wasted = {"repeated_failures", "call_regret", "loop_rate", "replans_unbroken"}
    assert {name for name, rate in found.items() if rate == 0.0} == wasted
    assert all(rate == 1.0 for name, rate in found.items() if name not in wasted)


def test_the_naive_policy_never_recovers() -> None:
    found = rates(naive, broken=0.6)
    assert found["recovery"] == found["replan_recall"] == found["replans_unbroken"] == 0.0
    assert found["repeated_failures"] > 0.3
    assert found["loop_rate"] > 0.0


def test_the_careless_policy_has_its_published_base_rates() -> None:
    found = rates(careless, broken=0.6)
    assert 0.2 < found["recovery"] < 0.4
    assert 0.2 < found["repeated_failures"] < 0.3
    assert found["replan_recall"] < 0.5
    assert found["plan_validity"] == 1.0
