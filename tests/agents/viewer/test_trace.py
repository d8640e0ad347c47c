"""Lines that are not what they should be: what is sound is shown, what is not is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.agents import (
    ContextWindow,
    EnvSpec,
    EpisodeRequest,
    ScriptedAgent,
    SegmentKind,
    Status,
    rollout_episode,
)
from forethought.agents.episode_rows import episode_to_row
from forethought.agents.tree import critical_path
from forethought.agents.viewer import read_line, read_trace
from forethought.agents.viewer.call_tree import lineage, mark_tree
from forethought.agents.viewer.columns import TokenColumns
from forethought.agents.viewer.cut_json import cut_texts
from forethought.agents.viewer.episode_view import describe_episode, split_sections
from forethought.agents.viewer.summary import summarise
from forethought.agents.viewer.trace import DamagedLine
from forethought.envs import Call, ToolEnv
from forethought.envs.conformance import Script
from forethought.envs.tools import CallResult

from .conftest import first_row, rich_episode

ROW = json.loads(json.dumps(episode_to_row(rich_episode(), 0)))


def changed(**changes: Any) -> dict[str, Any]:
    return {**ROW, **changes}


def test_a_sound_row_is_read_whole() -> None:
    trace = read_trace(ROW)
    episode = rich_episode()
    assert trace.problems == []
    for segment in episode.segments:
        segment.token_ids, segment.sampled, segment.logprobs = [], [], []
    assert trace.episode == episode
    assert [length for _, length in trace.columns] == [len(s.token_ids) for s in rich_episode().segments]


def test_a_newer_schema_opens_and_says_so() -> None:
    trace = read_trace(changed(schema="forethought/episode/2", branches=[], weather="fine"))
    assert trace.episode.id == "task-0/0" and len(trace.episode.turns) == 10
    (problem,) = trace.problems
    assert "forethought/episode/2" in problem and "branches, weather" in problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"turns": 3}, "turns: expected a list, found a whole number"),
        ({"turns": [None]}, "turns[0]: expected an object, found null"),
        ({"turns": [{**ROW["turns"][0], "segment": 99}]}, "turns[0].segment: there is no segment 99"),
        ({"plans": [{"turn": 99, "steps": []}]}, "plans[0].turn: there is no turn 99"),
        ({"scores": {"correct": "high"}}, "scores.correct: expected a finite number, found high"),
        ({"reward": float("nan")}, "reward: expected a finite number, found nan"),
        ({"status": "paused"}, "status: 'paused' is not known here"),
        ({"segments": [{**ROW["segments"][0], "parent": [0, 1]}]}, "segments[0].parent: expected an earlier segment"),
        ({"segments": [*ROW["segments"], {**ROW["segments"][1], "kind": "fork"}]}, "segments[4].kind: 'fork'"),
    ],
)
def test_a_wrong_value_is_left_out_and_named(changes: dict[str, Any], said: str) -> None:
    trace = read_trace(changed(**changes))
    assert any(problem.startswith(said) for problem in trace.problems), trace.problems
    assert trace.episode.task["prompt"].startswith("Who wrote")
    json.dumps(describe_episode(trace), allow_nan=False)


def test_a_sub_call_that_names_itself_does_not_loop() -> None:
    turns = [{**turn, "calls": [{**call, "child": 0} for call in turn["calls"]]} for turn in ROW["turns"]]
    trace = read_trace(changed(turns=turns))
    assert any("child: there is no later segment 0" in problem for problem in trace.problems)
    assert describe_episode(trace)["turn_count"] == 10


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[1]", b'{"id": ', b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff\xfe", b'"text"']
)
def test_a_damaged_line_says_what_it_is(line: bytes) -> None:
    with pytest.raises(DamagedLine, match=r"not JSON|expected an episode|nested too deep"):
        read_line(line)


def test_a_line_of_too_many_parts_is_not_parsed() -> None:
    with pytest.raises(DamagedLine, match="18 MB, in more parts"):
        read_line(b'{"turns": [' + b"0," * (9 << 20) + b"0]}")


def test_many_long_texts_are_cut_shorter() -> None:
    turns = [{**ROW["turns"][0], "text": "x" * 50_000, "calls": []} for _ in range(150)]
    line = json.dumps(changed(turns=turns, plans=[])).encode()
    trace = read_line(line)
    assert len(trace.episode.turns) == 150 and 8000 < len(trace.episode.turns[149].text) < 9000
    said = f"150 long texts are cut: the first 8 KB are shown, the raw line has all {len(line):,} bytes"
    assert trace.problems == [said]


def test_many_calls_and_plans_are_not_all_shown() -> None:
    calls = [{"name": "a", "arguments": {}, "step": 1, "output": "", "error": None}] * 600
    plans = [{"turn": 0, "steps": []}] * 600
    shown = describe_episode(read_trace(changed(turns=[{**ROW["turns"][0], "calls": calls}], plans=plans)))
    assert (len(shown["turns"][0]["calls"]), shown["turns"][0]["left_out_calls"]) == (500, 100)
    assert (len(shown["plans"]), shown["left_out_plans"]) == (500, 100)


def test_a_turn_of_megabytes_is_cut_and_the_rest_is_whole() -> None:
    row = changed(turns=[{**ROW["turns"][0], "text": "<think>" + 'long \U0001f600\\"' * 200_000}, *ROW["turns"][1:]])
    trace = read_line(json.dumps(row).encode())
    assert any("1 long text is cut" in problem for problem in trace.problems)
    text = trace.episode.turns[0].text
    assert len(text) < 70_000 and "more bytes" in text[-40:]
    assert trace.episode.turns[1:] == read_trace(ROW).episode.turns[1:]


@given(st.text(max_size=60), st.integers(0, 40))
def test_cutting_leaves_json(text: str, longest: int) -> None:
    line = json.dumps({text: [text, 1, {"a": text}]}).encode()
    short, count = cut_texts(line, longest)
    (values,) = json.loads(short).values()
    if not count:
        assert values == [text, 1, {"a": text}]
    kept = values[0].rpartition(" \u2308cut: ")[0] if count and json.dumps(values[0]) != json.dumps(text) else values[0]
    # In escapes, because a cut may go through the middle of a pair of surrogates.
    assert json.dumps(text)[:-1].startswith(json.dumps(kept)[:-1])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_row_something_is_shown(data: st.DataObject) -> None:
    row = json.loads(json.dumps(ROW))
    for _ in range(data.draw(st.integers(1, 4))):
        at: Any = row
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
                at[key] = data.draw(_JSON)
                break
            at = at[key]
    trace = read_trace(row)
    summarise(trace)
    json.dumps(describe_episode(trace), allow_nan=False)


def test_the_marked_path_is_the_critical_path() -> None:
    episode = rich_episode()
    tree, path = mark_tree(episode), critical_path(episode)
    assert (tree.tokens, tree.total) == (path.tokens, path.total)
    assert tree.segments == {0, 1, 3} and tree.calls == {(4, 1)}
    assert tree.sampled == [sum(segment.sampled) for segment in episode.segments]
    where = lineage(episode)
    assert where.task == [episode.task_of(i) for i in range(4)] == [0, 0, 2, 3]
    assert where.depth == [episode.depth_of(i) for i in range(4)] == [0, 0, 1, 1]


def test_a_frozen_sub_model_can_be_the_longest() -> None:
    episode = rich_episode()
    episode.turns[4].calls.append(CallResult(name="ask", arguments={}, model="big", sampled_tokens=999))
    tree, path = mark_tree(episode), critical_path(episode)
    assert (tree.tokens, tree.total) == (path.tokens, path.total)
    assert tree.calls == {(4, 2)} and tree.segments == {0, 1}


def test_the_view_of_an_episode() -> None:
    shown = describe_episode(read_trace(ROW))
    first, _, malformed, *_ = shown["turns"]
    assert [s["kind"] for s in first["sections"]] == ["plan", "think", "call"]
    assert malformed["error"] == "unclosed_section" and [s["kind"] for s in malformed["sections"]] == ["other"]
    assert [(p["task"], p["depth"]) for p in shown["plans"]] == [(0, 0), (0, 0), (2, 1), (3, 1)]
    assert shown["plans"][0]["steps"][0]["served_by"] == [[0, 0], [1, 0]]
    assert shown["plans"][1]["steps"][0]["served_by"] == [[4, 0], [4, 1]]
    assert [turn["plan"] for turn in shown["turns"]] == [0, 0, 0, 0, 1, 2, 2, 3, 3, 1]
    assert shown["turns"][1]["calls"][0]["repeated"] and not first["calls"][0]["repeated"]
    second = shown["segments"][1]
    assert second["kind"] == SegmentKind.AFTER_SUMMARY and second["carried"] == "The archive has nothing."
    assert [s["asked_by"] for s in shown["segments"]] == [None, None, [4, 0], [4, 1]]
    assert sum(shown["sections"].values()) == shown["sampled"] and shown["weights"] == {"correct": 1.0}


def test_turns_come_in_stretches() -> None:
    shown = describe_episode(read_trace(ROW), start=8, count=5)
    assert [turn["index"] for turn in shown["turns"]] == [8, 9] and shown["turn_count"] == 10


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("", []),
        ("a<plan>b</plan>c", [("other", "a"), ("plan", "b"), ("other", "c")]),
        ("<think><plan></think>", [("think", "<plan>")]),
        ("</plan><plan>", [("other", "</plan><plan>")]),
        ("<answer></answer>", [("answer", "")]),
    ],
)
def test_sections_of_any_text(text: str, sections: list[tuple[str, str]]) -> None:
    assert split_sections(text) == sections


def test_a_row_that_a_writer_wrote_is_read_without_complaint(write_run: Callable[..., Path]) -> None:
    trace = read_trace(first_row(write_run([rich_episode()])))
    assert trace.problems == [] and trace.episode.status is Status.COMPLETED


async def test_a_rollout_with_summaries(echo_spec: EnvSpec, write_run: Callable[..., Path]) -> None:
    def script(env: ToolEnv) -> Script:
        for number in range(3):
            plan = ["echo", "answer"] if number == 0 else None
            yield env.codec.write_turn(plan=plan, calls=[Call("echo", {"text": f"word {number}"}, step=1)])
            yield env.codec.write_turn(summary=f"Echoed {number}.")
        yield env.codec.write_turn(answer="word7")

    env = echo_spec.make()
    agent = ScriptedAgent(script, window=ContextWindow(limit=100_000, policy="learned"))
    episode = await rollout_episode(env, echo_spec, agent, EpisodeRequest(task=env.tasks[7], seed=3))
    trace = read_line((write_run([episode]) / "episodes.jsonl").read_bytes())
    shown = describe_episode(trace, TokenColumns(write_run([], "run")))
    assert shown["problems"] == []
    assert [segment["carried"] for segment in shown["segments"]] == [None, "Echoed 0.", "Echoed 1.", "Echoed 2."]
    assert shown["critical"]["tokens"] == critical_path(episode).tokens == shown["sampled"]
    assert shown["plans"][0]["steps"][0]["served_by"] == [[0, 0], [2, 0], [4, 0]]
