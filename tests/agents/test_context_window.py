"""Context windows: what a policy reads when its context is full."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.agents import (
    ByteTokenizer,
    ContextWindow,
    EnvSpec,
    Episode,
    EpisodeRequest,
    EpisodeStore,
    EpisodeWriter,
    FinishReason,
    ModelAgent,
    PlainFormat,
    Sample,
    SamplingParams,
    ScriptedAgent,
    SegmentKind,
    replay_episode,
    rollout_episode,
)
from forethought.agents.interventions import SwapSummaries
from forethought.envs import Call, ToolEnv
from forethought.envs.conformance import Script

FORM = PlainFormat(ByteTokenizer())


def text_of(token_ids: Sequence[int]) -> str:
    return bytes(t for t in token_ids if t < 256).decode()


def echo(env: ToolEnv, text: str, **parts: Any) -> str:
    return env.codec.write_turn(calls=[Call("echo", {"text": text})], **parts)


async def roll_out(script: Any, window: ContextWindow, spec: EnvSpec) -> Episode:
    env = spec.make()
    agent = ScriptedAgent(script, FORM, window=window)
    return await rollout_episode(env, spec, agent, EpisodeRequest(task=env.tasks[7], seed=3))


@dataclass
class WatchedEngine:
    """A script's engine that keeps what it was shown."""

    inner: Any
    context_limit: int = 10**6
    prompts: list[list[int]] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        self.prompts.append(list(prompt_ids))
        self.rooms.append(params.max_tokens)
        sample: Sample = await self.inner.sample(prompt_ids, params, session=session)
        return Sample(sample.token_ids, [-1.0] * len(sample.token_ids), sample.finish_reason)

    def release(self, session: str) -> None: ...

    async def close(self) -> None: ...


class WatchedAgent(ScriptedAgent):
    """A scripted agent whose one engine can be asked what it saw."""

    watched: WatchedEngine

    def engine_for(self, env: ToolEnv) -> Any:
        self.watched = WatchedEngine(super().engine_for(env))
        return self.watched


async def test_a_summary_in_any_turn_begins_a_segment_with_task_plan_and_summary(echo_spec: EnvSpec) -> None:
    read: list[str] = []

    def script(env: ToolEnv) -> Script:
        yield echo(env, "a", plan=["old"])
        yield echo(env, "b", plan=["new"])
        read.append((yield env.codec.write_turn(think="enough", summary="a and b")))
        yield env.codec.write_turn(answer="word7")

    episode = await roll_out(script, ContextWindow(policy="learned"), echo_spec)
    first, second = episode.segments
    assert [first.kind, second.kind] == [SegmentKind.ROOT, SegmentKind.AFTER_SUMMARY]
    assert second.parent == (0, len(first.token_ids))
    prompt = text_of(second.token_ids)
    assert "echo word7\n\n<plan>\n1. new\n</plan>\n\n<summary>\na and b\n</summary>" in prompt
    assert "old" not in prompt and "enough" not in prompt
    assert read[0] in text_of(second.token_ids), "a script and a model read the same"
    assert [sum(s.sampled) > 0 for s in episode.segments] == [True, True]
    assert second.sampled[: episode.turns[-1].start] == [0] * episode.turns[-1].start, "a summary is read, not sampled"
    summary = next(span for span in first.sections if span.kind == "summary")
    carried = first.token_ids[summary.start : summary.end]
    assert any(second.token_ids[i : i + len(carried)] == carried for i in range(len(second.token_ids)))
    assert episode.usage["summaries"] == 1 and episode.stop_reason == "answered"
    assert episode.window == {"limit": None, "policy": "learned"}
    assert await replay_episode(episode) == []


async def test_a_full_window_asks_for_a_summary_and_gives_the_observation_after_it(echo_spec: EnvSpec) -> None:
    long = "x" * 400
    read: list[str] = []

    def script(env: ToolEnv) -> Script:
        read.append((yield echo(env, long, plan=["read"])))
        read.append((yield env.codec.write_turn(summary="saw nothing yet")))
        yield env.codec.write_turn(answer="word7")

    env = echo_spec.make()
    env.summaries = True
    opening = len(env.reset(options={"task": 7})[0].encode())
    window = ContextWindow(limit=opening + 1000, policy="learned", summary_tokens=100, turn_tokens=100)
    episode = await roll_out(script, window, echo_spec)
    assert "context is full" in read[0] and long not in read[0]
    assert long in read[1] and "saw nothing yet" in read[1]
    first, second = map(text_of, (s.token_ids for s in episode.segments))
    assert first.count(long) == 1, "in the call alone: the observation was held back"
    assert second.index("saw nothing yet") < second.index(long)
    assert episode.turns[0].observation.count(long) == 1
    assert await replay_episode(episode) == []


async def test_what_is_not_a_summary_when_one_is_due_is_an_error(echo_spec: EnvSpec) -> None:
    read: list[str] = []

    def script(env: ToolEnv) -> Script:
        yield echo(env, "x" * 300, plan=["read"])
        read.append((yield env.codec.write_turn(answer="word7")))
        yield env.codec.write_turn(summary="now")
        yield env.codec.write_turn(answer="word7")

    env = echo_spec.make()
    env.summaries = True
    opening = len(env.reset(options={"task": 7})[0].encode())
    window = ContextWindow(limit=opening + 1000, policy="learned", summary_tokens=250, turn_tokens=100)
    episode = await roll_out(script, window, echo_spec)
    assert read == ["<tool_response>\nFormat error: expected <summary>, found <answer>.\n</tool_response>"]
    assert [turn.error for turn in episode.turns] == [None, "summary_due", None, None]
    assert episode.stop_reason == "answered" and len(episode.segments) == 2
    assert await replay_episode(episode) == []


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=12),
    limit=st.integers(250, 900),
    summary=st.integers(60, 120),
    policy=st.sampled_from(["learned", "truncate", "keep_recent"]),
    recent=st.integers(1, 3),
)
def test_no_context_exceeds_its_window_and_no_summary_is_cut(
    sizes: list[int], limit: int, summary: int, policy: str, recent: int
) -> None:
    import gymnasium

    from tests.agents.conftest import EchoEnv

    if "tests/WindowEcho-v0" not in gymnasium.registry:
        gymnasium.register("tests/WindowEcho-v0", EchoEnv)
    spec = EnvSpec(id="tests/WindowEcho-v0", kwargs={"mode": "bare", "budget": {"turns": None}})
    env = spec.make()
    env.summaries = policy == "learned"
    opening = len(env.reset(options={"task": 7})[0].encode())

    def script(env: ToolEnv) -> Script:
        sent = ""
        for size in sizes:
            sent = yield echo(env, "x" * size)
            while sent == env.codec.summary_request:
                sent = yield env.codec.write_turn(summary="s" * (summary - 25))
        yield env.codec.write_turn(answer="word7")

    agent = WatchedAgent(
        script,
        FORM,
        window=ContextWindow(
            limit=opening + limit, policy=policy, summary_tokens=summary, turn_tokens=60, recent=recent
        ),
    )
    episode = asyncio.run(rollout_episode(env, spec, agent, EpisodeRequest(task=env.tasks[7])))
    shown = iter(agent.watched.prompts)
    for turn in episode.turns:
        segment = episode.segments[turn.segment]
        assert segment.token_ids[: turn.start] == next(shown), "a segment is exactly the context the model saw"
        if turn.text.startswith("<summary>"):
            assert turn.error is None, "the window never cuts a summary of the length that it keeps free"
    assert all(len(segment.token_ids) <= opening + limit for segment in episode.segments)
    assert all(
        segment.parent is not None and segment.parent[0] == index - 1
        for index, segment in enumerate(episode.segments)
        if index
    )
    assert asyncio.run(replay_episode(episode, env)) == []


def turns(count: int) -> Any:
    def script(env: ToolEnv) -> Script:
        for number in range(count):
            yield echo(env, f"turn-{number}-" + "x" * 50, plan=["go on"] if number == 0 else None)
        yield env.codec.write_turn(answer="word7")

    return script


@pytest.mark.parametrize(("policy", "plan_stays"), [("truncate", False), ("keep_recent", True)])
async def test_old_turns_are_dropped(policy: str, plan_stays: bool, echo_spec: EnvSpec) -> None:
    env = echo_spec.make()
    opening = len(env.reset(options={"task": 7})[0].encode())
    window = ContextWindow(limit=opening + 900, policy=policy, turn_tokens=150, recent=2)
    episode = await roll_out(turns(10), window, echo_spec)
    assert episode.stop_reason == "answered" and len(episode.segments) > 1
    for segment in episode.segments[1:]:
        text = text_of(segment.token_ids)
        assert segment.kind is SegmentKind.TRIMMED
        assert ("1. go on" in text) is plan_stays and "turn-0-" not in text
    if policy == "keep_recent":
        second = text_of(episode.segments[1].token_ids[: episode.turns[-1].start])
        assert len({part[:6] for part in second.split("turn-")[1:]}) >= 2
    sampled = [sum(segment.sampled) for segment in episode.segments]
    assert sum(sampled) == episode.usage["sampled_tokens"], "every token is sampled in one segment alone"
    assert await replay_episode(episode) == []


async def test_without_a_policy_a_full_context_ends_the_episode(echo_spec: EnvSpec) -> None:
    env = echo_spec.make()
    opening = len(env.reset(options={"task": 7})[0].encode())
    episode = await roll_out(turns(10), ContextWindow(limit=opening + 500), echo_spec)
    assert episode.stop_reason == "context" and len(episode.segments) == 1
    assert await replay_episode(episode) == []


@pytest.mark.parametrize("policy", ["learned", "truncate"])
async def test_segments_are_limited(policy: str, echo_spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        sent = yield echo(env, "x" * 300, plan=["go on"])
        while True:
            if sent == env.codec.summary_request:
                sent = yield env.codec.write_turn(summary="more")
            else:
                sent = yield echo(env, "x" * 300)

    env = echo_spec.make()
    env.summaries = policy == "learned"
    opening = len(env.reset(options={"task": 7})[0].encode())
    window = ContextWindow(limit=opening + 1100, policy=policy, segments=3, summary_tokens=100, turn_tokens=350)
    episode = await roll_out(script, window, echo_spec)
    assert episode.stop_reason == "segments" and len(episode.segments) == 3
    assert await replay_episode(episode) == []


async def test_a_summary_needs_a_window_that_learns(echo_spec: EnvSpec) -> None:
    read: list[str] = []

    def script(env: ToolEnv) -> Script:
        read.append((yield env.codec.write_turn(plan=["stop"], summary="no")))
        yield env.codec.write_turn(plan=["answer"], answer="word7")

    episode = await roll_out(script, ContextWindow(), echo_spec)
    assert "expected <tool_call> or <answer>, found <summary>" in read[0]
    assert len(episode.segments) == 1 and episode.usage["summaries"] == 0
    assert "<summary>" not in text_of(episode.segments[0].token_ids[: episode.turns[0].start])
    assert await replay_episode(episode) == []


async def test_an_environment_alone_answers_a_summary_with_the_new_context(echo_spec: EnvSpec) -> None:
    env = EnvSpec(id=echo_spec.id, kwargs={"summaries": True}).make()
    observation, _ = env.reset(options={"task": 7})
    assert "</summary>" in observation
    write = env.codec.write_turn
    text, reward, terminated, truncated, info = env.step(write(plan=["go"], summary="nothing so far"))
    assert text == f"{observation}\n\n{write(plan=['go'])}\n\n{write(summary='nothing so far')}"
    assert (reward, terminated, truncated, info["usage"]["summaries"]) == (0.0, False, False, 1)


async def test_a_changed_summary_is_found(echo_spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        yield env.codec.write_turn(plan=["go"], summary="secret")
        yield env.codec.write_turn(answer="word7")

    episode = await roll_out(script, ContextWindow(policy="learned"), echo_spec)
    episode.turns[0].text = episode.turns[0].text.replace("secret", "forged")
    assert await replay_episode(episode) == ["turn 0: the observation differs"]


async def test_segments_survive_the_disk(echo_spec: EnvSpec, tmp_path: Path) -> None:
    def script(env: ToolEnv) -> Script:
        yield env.codec.write_turn(plan=["go"], summary="so far")
        yield env.codec.write_turn(answer="word7")

    episode = await roll_out(script, ContextWindow(policy="learned", limit=5000), echo_spec)
    with EpisodeWriter(tmp_path) as writer:
        writer.append(episode)
    (stored,) = EpisodeStore(tmp_path)
    for turn in (*stored.turns, *episode.turns):
        turn.seconds = turn.sampling_seconds = 0.0  # rounded on disk
    assert stored == episode


async def test_the_engine_limits_the_window(echo_spec: EnvSpec) -> None:
    @dataclass
    class SmallEngine:
        context_limit: int = 2000

        async def sample(
            self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None
        ) -> Sample:
            count = min(params.max_tokens, 100)
            return Sample([65] * count, [-1.0] * count, FinishReason.LENGTH)

        def release(self, session: str) -> None: ...

        async def close(self) -> None: ...

    env = echo_spec.make()
    agent = ModelAgent(engine=SmallEngine(), format=FORM, window=ContextWindow(limit=10**6))
    episode = await rollout_episode(env, echo_spec, agent, EpisodeRequest(task=env.tasks[7]))
    assert len(episode.segments[0].token_ids) <= 2000


@pytest.mark.parametrize(
    ("options", "message"),
    [({"limit": 0}, "'limit' must be at least 1, found 0"), ({"policy": "sometimes"}, "sometimes")],
)
def test_impossible_windows_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextWindow(**options)


async def test_swapped_summaries_come_from_other_tasks(echo_spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        yield env.codec.write_turn(plan=["go"], summary=f"{env.task.answer} it is")
        yield env.codec.write_turn(answer="x")

    env = echo_spec.make()
    agent = ScriptedAgent(script, FORM, window=ContextWindow(policy="learned"), intervention=SwapSummaries())
    read = []
    for number in range(10):
        episode = await rollout_episode(env, echo_spec, agent, EpisodeRequest(task=env.tasks[number]))
        read.append(text_of(episode.segments[1].token_ids))
    assert all(f"word{number} it is" not in text for number, text in enumerate(read))
    assert all("it is" in text for text in read[1:])
    assert episode.window["intervention"] == "swap_summaries"
