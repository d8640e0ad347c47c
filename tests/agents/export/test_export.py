from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.agents import ContextWindow, EnvSpec, EpisodeStore, EpisodeWriter, ScriptedAgent
from forethought.agents.episode import Episode, PlanVersion, SectionSpan, Segment, SegmentKind, Status, Turn
from forethought.agents.export import AtifError, ChatRows, episode_from_atif, episode_to_atif
from forethought.agents.rollout import EpisodeRequest, rollout_episode
from forethought.envs import Call, Task, ToolEnv, tool
from forethought.envs.tools import CallResult
from forethought.trainers.cli import main

TEXT = "naïve 中文 🎈\x00\ud800\u2028\n<think>hm</think>"


class EchoEnv(ToolEnv):
    """Echo, with sub-models."""

    def __init__(self, **options: Any) -> None:
        super().__init__([Task(id=f"e{i}", prompt=f"echo word{i}", answer=f"word{i}") for i in range(4)], **options)

    @tool(timeout=None)
    def echo(self, text: str) -> str:
        """Give the text back."""
        return text

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer)}


@pytest.fixture(autouse=True)
def spec() -> Iterator[EnvSpec]:
    gymnasium.register("tests/ExportEcho-v0", EchoEnv)
    yield EnvSpec(id="tests/ExportEcho-v0", kwargs={"sub_models": ["self"], "budget": {"depth": 2, "turns": None}})
    del gymnasium.registry["tests/ExportEcho-v0"]


def tree(env: ToolEnv) -> Any:
    if env.depth == 2:
        yield env.codec.write_turn(plan=["say it"], answer=f"deep {env.task.prompt}")
    elif env.depth == 1:
        yield env.codec.write_turn(
            plan=["ask"], calls=[Call("ask", {"task": f"{env.task.prompt}!"}), Call("nothing", {})]
        )
        yield env.codec.write_turn(think="so", answer=f"mid {env.task.prompt}")
    else:
        calls = [
            Call("ask", {"task": "left", "context": "here"}, 1),
            Call("echo", {"text": "x"}, 2),
            Call("ask", {"task": "right"}),
        ]
        yield env.codec.write_turn(plan=["ask both", "echo"], think="hm", calls=calls)
        yield "no turn at all"
        yield env.codec.write_turn(plan=["answer"], answer=env.task.answer)


async def roll(script: Any, spec: EnvSpec, window: ContextWindow | None = None) -> Episode:
    env = spec.make()
    return await rollout_episode(env, spec, ScriptedAgent(script, window=window), EpisodeRequest(task=env.tasks[1]))


def strange(number: int) -> Episode:
    """Whatever an episode can hold, sense or not."""
    rng = random.Random(number)
    segments = []
    for kind, parent in ((SegmentKind.ROOT, None), (SegmentKind.SUB_CALL, (0, 2)), (SegmentKind.TRIMMED, (1, 3))):
        length = rng.randrange(6, 30)
        segments.append(
            Segment(
                kind=kind,
                parent=parent,
                token_ids=[rng.randrange(2**31) for _ in range(length)],
                sampled=[rng.randrange(2) for _ in range(length)],
                logprobs=[rng.choice([0.0, -rng.random(), -math.inf]) for _ in range(length)],
                sections=[SectionSpan("think", 1, 3)],
            )
        )
    call = CallResult(
        name=TEXT, arguments={"x": [1, 0.5, None, TEXT]}, step=1, output=TEXT, error="timeout", model="self", child=1,
        sampled_tokens=3, cost=0.25, stop_reason="turns",
    )  # fmt: skip
    turns = [
        Turn(text=TEXT, observation=TEXT, segment=0, start=1, end=3, calls=[call, call], seconds=0.1),
        Turn(text="", observation="", segment=2, start=2, end=2, error="missing_act", sampling_seconds=0.3),
        Turn(text="a", observation="b", segment=1, start=0, end=4),
        Turn(text="a", observation="b", segment=0, start=4, end=6),
    ]
    return Episode(
        id=f"t {number}/0", task_id="t", attempt=2, env={"id": "x", "version": "1", "kwargs": {"hops": [0, 8]}},
        task={"id": "t", "prompt": TEXT}, seed=number, window={"limit": None, "policy": "none"}, segments=segments,
        turns=turns, plans=[PlanVersion(turn=0, steps=[{"number": 1, "text": TEXT, "after": []}])],
        scores={"correct": 0.5}, reward=0.1, answer=TEXT, usage={"turns": 4, "cost": 0.5}, stop_reason="turns",
        status=Status.TRUNCATED, fault=None, retries=3,
    )  # fmt: skip


def check_atif(trajectory: dict[str, Any], root: bool = True) -> None:
    """What the format asks for, beyond names and types."""
    assert [step["step_id"] for step in trajectory["steps"]] == list(range(1, len(trajectory["steps"]) + 1))
    inner = {sub["trajectory_id"] for sub in trajectory.get("subagent_trajectories", ())}
    assert len(inner) == len(trajectory.get("subagent_trajectories", ()))
    for step in trajectory["steps"]:
        calls = {call["tool_call_id"] for call in step.get("tool_calls", ())}
        for result in step.get("observation", {"results": []})["results"]:
            assert result.get("source_call_id") in {None, *calls}
            assert {ref["trajectory_id"] for ref in result.get("subagent_trajectory_ref", ())} <= inner
        if step["source"] != "agent":
            assert not {"metrics", "tool_calls", "reasoning_content"} & step.keys()
    for sub in trajectory.get("subagent_trajectories", ()):
        check_atif(sub, root=False)


def check_with_harbor(trajectory: dict[str, Any]) -> None:
    harbor = pytest.importorskip("harbor.models.trajectories.trajectory", reason="needs harbor")
    harbor.Trajectory.model_validate(trajectory)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_any_episode_comes_back_as_it_was(number: int) -> None:
    episode = strange(number)
    trajectory = episode_to_atif(episode)
    check_atif(trajectory)
    assert episode_from_atif(json.loads(json.dumps(trajectory, allow_nan=False))) == episode


def test_logprobs_that_are_no_numbers_come_back() -> None:
    episode = strange(1)
    episode.segments[0].logprobs[1:3] = [math.nan, -1.0]
    back = episode_from_atif(json.loads(json.dumps(episode_to_atif(episode), allow_nan=False)))
    assert math.isnan(back.segments[0].logprobs[1]) and back.segments[0].logprobs[2] == -1.0


def test_a_fault_comes_back() -> None:
    episode = Episode(
        id="t/0", task_id="t", attempt=0, env={"id": "x", "version": "1", "kwargs": {}}, seed=0,
        task={"id": "t", "prompt": "p"}, status=Status.FAULT, stop_reason="fault", fault="gone",
    )  # fmt: skip
    assert episode_from_atif(episode_to_atif(episode)) == episode


async def test_the_tree_becomes_sub_agents(spec: EnvSpec) -> None:
    episode = await roll(tree, spec)
    assert len(episode.segments) == 5
    trajectory = episode_to_atif(episode)
    check_atif(trajectory)
    assert episode_from_atif(json.loads(json.dumps(trajectory))) == episode
    first = trajectory["steps"][1]
    assert first["reasoning_content"] == "hm" and first["message"] == episode.turns[0].text
    assert [call["function_name"] for call in first["tool_calls"]] == ["ask", "echo", "ask"]
    left, right = trajectory["subagent_trajectories"]
    assert first["observation"]["results"][0]["subagent_trajectory_ref"][0]["trajectory_id"] == left["trajectory_id"]
    assert [left["steps"][0]["message"], right["steps"][0]["message"]] == ["left\n\nhere", "right"]
    assert len(left["subagent_trajectories"]) == 1
    metrics = first["metrics"]
    turn = episode.turns[0]
    assert metrics["completion_token_ids"] == episode.segments[0].token_ids[turn.start : turn.end]
    assert len(metrics["logprobs"]) == metrics["completion_tokens"] and metrics["prompt_tokens"] == turn.start


async def test_harbor_reads_it(spec: EnvSpec) -> None:
    check_with_harbor(episode_to_atif(await roll(tree, spec)))


def test_a_trajectory_of_others_is_refused() -> None:
    with pytest.raises(AtifError, match=r"expected a trajectory with extra\.forethought"):
        episode_from_atif({"schema_version": "ATIF-v1.7", "steps": []})
    newer = episode_to_atif(strange(0))
    newer["extra"]["forethought"]["schema"] = "forethought/episode/2"
    with pytest.raises(AtifError, match="forethought/episode/2"):
        episode_from_atif(newer)


def as_read(messages: list[dict[str, Any]]) -> str:
    """The context that the plain format makes of messages, its special tokens left out."""
    texts = [message["content"] for message in messages]
    return "\n\n".join(texts[:2]) + "".join(texts[2:]) if messages[0]["role"] == "system" else "".join(texts)


def check_chat(episode: Episode) -> None:
    rows = ChatRows().rows(episode)
    written = list(episode.turns)
    if episode.window["policy"] != "learned" or (
        all(turn.error in (None, "summary_due") for turn in episode.turns) and "<summary>" not in written[-1].text
    ):
        assert all(row["exact"] for row in rows)
    for row in rows:
        segment = episode.segments[row["segment"]]
        last = max(turn.end for turn in episode.turns if turn.segment == row["segment"])
        text = bytes(t for t in segment.token_ids[:last] if t < 256).decode()
        if row["exact"]:
            assert as_read(row["messages"]) == text, "the messages are the context that the policy saw"
        assert row["messages"][-1]["role"] == "assistant"
        for message in row["messages"]:
            if message["train"]:
                written.remove(next(t for t in written if t.text == message["content"] and t.segment == row["segment"]))
    assert written == [], "every turn is trained in one row"


async def test_contexts_of_a_tree_as_chat(spec: EnvSpec) -> None:
    episode = await roll(tree, spec)
    check_chat(episode)
    kinds = [row["kind"] for row in ChatRows().rows(episode)]
    assert kinds == ["root", "sub_call", "sub_call", "sub_call", "sub_call"]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=10),
    limit=st.integers(300, 900),
    policy=st.sampled_from(["learned", "truncate", "keep_recent", "none"]),
    recent=st.integers(1, 3),
    chosen=st.sets(st.integers(0, 9), max_size=2),
    wrong=st.booleans(),
)
def test_contexts_of_any_window_as_chat(
    sizes: list[int], limit: int, policy: str, recent: int, chosen: set[int], wrong: bool
) -> None:
    if "tests/ExportEcho-v0" not in gymnasium.registry:
        gymnasium.register("tests/ExportEcho-v0", EchoEnv)
    spec = EnvSpec(id="tests/ExportEcho-v0", kwargs={"budget": {"turns": None}})
    env = spec.make()
    env.summaries = policy == "learned"
    opening = len(env.reset(options={"task": 1})[0].encode())

    def script(env: ToolEnv) -> Any:
        for number, size in enumerate(sizes):
            plan = ["go on"] if number == 0 else None
            sent = yield env.codec.write_turn(plan=plan, calls=[Call("echo", {"text": f"{number}-" + "x" * size})])
            if sent == env.codec.summary_request and wrong:
                sent = yield env.codec.write_turn(answer="word1")
            while sent == env.codec.summary_request or "expected <summary>" in sent:
                sent = yield env.codec.write_turn(summary="s" * 30)
            if number in chosen and policy == "learned":
                yield env.codec.write_turn(think="enough", summary=f"after {number}")
        yield env.codec.write_turn(answer="word1")

    window = ContextWindow(limit=opening + limit, policy=policy, summary_tokens=90, turn_tokens=60, recent=recent)
    episode = asyncio.run(roll(script, spec, window))
    check_chat(episode)
    assert episode_from_atif(json.loads(json.dumps(episode_to_atif(episode)))) == episode


async def test_a_run_is_exported(spec: EnvSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episode = await roll(tree, spec)
    with EpisodeWriter(tmp_path / "run") as writer:
        writer.append(episode)
    run = str(tmp_path / "run")
    assert main(["export", run, "--to", "atif", "--out", str(tmp_path / "a.jsonl")]) == 0
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [episode_from_atif(json.loads(line))] == list(EpisodeStore(tmp_path / "run"))
    assert main(["export", run, "--to", "atif", "--out", str(tmp_path / "folder")]) == 0
    (file,) = (tmp_path / "folder").iterdir()
    assert json.loads(file.read_text()) == json.loads(line)
    assert main(["export", run, "--to", "chat", "--out", str(tmp_path / "c.jsonl")]) == 0
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 5
    capsys.readouterr()
    assert main(["export", str(tmp_path), "--to", "chat", "--out", str(tmp_path / "d.jsonl")]) == 1
    assert "no episodes in" in capsys.readouterr().err and not list(tmp_path.glob("d.*"))
