import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from forethought.agents import (
    Agent,
    ByteTokenizer,
    ChatFormat,
    ContextFormat,
    EnvSpec,
    Episode,
    EpisodeRequest,
    FinishReason,
    ModelAgent,
    PlainFormat,
    Sample,
    SamplingParams,
    ScriptedAgent,
    SegmentKind,
    Status,
    replay_episode,
    rollout_episode,
)
from forethought.envs import Task, ToolEnv
from forethought.envs.conformance import Script
from forethought.envs.protocol import Call
from forethought.sandboxes import InfrastructureFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class RecordingEngine:
    """Says given turns with logprobs of its own, and keeps every prompt that it was shown."""

    turns: list[list[int]]
    context_limit: int = 10**6
    prompts: list[list[int]] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    sessions: list[str | None] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    fault_at: int | None = None

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        turn = len(self.prompts)
        self.prompts.append(list(prompt_ids))
        self.params.append(params)
        self.sessions.append(session)
        if turn == self.fault_at:
            raise InfrastructureFault("the server is gone")
        ids = self.turns[turn][: params.max_tokens]
        logprobs = [-0.5 - turn - i / 1024 for i in range(len(ids))]
        stopped = ids[-1:] != [] and ids[-1] in params.stop_token_ids
        return Sample(ids, logprobs, FinishReason.STOP if stopped else FinishReason.LENGTH)

    def release(self, session: str) -> None:
        self.released.append(session)

    async def close(self) -> None: ...


TEXTS = (
    '<plan>\n1. ask\n2. answer (after 1)\n</plan>\n<think>naïve 中文</think>\n<tool_call>\n{"name": "echo", '
    '"arguments": {"text": "word7"}, "step": 1}\n</tool_call>',
    "<think>hm</think>oops",
    "<plan>\n1. answer\n</plan>\n<answer>word7</answer>",
)


def agent_saying(texts: Sequence[str], form: ContextFormat, **options: Any) -> tuple[ModelAgent, RecordingEngine]:
    engine = RecordingEngine([[*form.tokenizer.encode_turn(t), form.stop_token_ids[0]] for t in texts], **options)
    return ModelAgent(engine=engine, format=form, sampling=SamplingParams(max_tokens=10_000)), engine


async def roll_out(agent: Agent, spec: EnvSpec, **request: Any) -> Episode:
    env = spec.make()
    return await rollout_episode(env, spec, agent, EpisodeRequest(task=env.tasks[7], **request))


async def test_an_episode_holds_what_was_sampled_and_what_was_seen(echo_spec: EnvSpec) -> None:
    agent, engine = agent_saying(TEXTS, PlainFormat(ByteTokenizer()))
    episode = await roll_out(agent, echo_spec)
    segment = episode.segments[0]
    for turn, sampled, prompt in zip(episode.turns, engine.turns, engine.prompts, strict=True):
        assert segment.token_ids[turn.start : turn.end] == sampled  # token in, token out
        assert segment.token_ids[: turn.start] == prompt  # a segment is exactly the context the model saw
    assert len(segment.token_ids) == episode.turns[-1].end
    assert segment.sampled == [
        int(any(t.start <= i < t.end for t in episode.turns)) for i in range(len(segment.sampled))
    ]
    expected = [0.0] * len(segment.token_ids)
    for number, turn in enumerate(episode.turns):
        for i in range(turn.end - turn.start):
            expected[turn.start + i] = -0.5 - number - i / 1024
    assert segment.logprobs == expected
    assert (segment.kind, segment.parent) == (SegmentKind.ROOT, None)


async def test_an_episode_records_turns_plans_scores_and_usage(echo_spec: EnvSpec) -> None:
    agent, _ = agent_saying(TEXTS, PlainFormat(ByteTokenizer()))
    episode = await roll_out(agent, echo_spec, attempt=3, seed=11)
    assert (episode.id, episode.task_id, episode.attempt, episode.seed) == ("e7/3", "e7", 3, 11)
    assert [turn.text for turn in episode.turns] == list(TEXTS)
    assert [turn.error for turn in episode.turns] == [None, "unexpected_text", None]
    assert episode.turns[0].calls[0].output == "word7"
    assert "Format error" in episode.turns[1].observation
    assert [(plan.turn, len(plan.steps)) for plan in episode.plans] == [(0, 2), (2, 1)]
    assert episode.plans[0].steps[1] == {"number": 2, "text": "answer", "after": [1]}
    assert (episode.status, episode.stop_reason, episode.answer) == (Status.COMPLETED, "answered", "word7")
    assert (episode.reward, episode.scores) == (1.0, {"correct": 1.0, "answered": 1.0})
    assert episode.usage["turns"] == 3
    assert episode.usage["sampled_tokens"] == episode.sampled_tokens()
    assert episode.usage["context_tokens"] == sum(turn.end for turn in episode.turns)
    assert all(turn.seconds >= 0 and turn.sampling_seconds >= 0 for turn in episode.turns)
    assert await replay_episode(episode) == []


async def test_sections_are_spans_of_the_segment(echo_spec: EnvSpec) -> None:
    form = PlainFormat(ByteTokenizer())
    agent, _ = agent_saying(TEXTS, form)
    episode = await roll_out(agent, echo_spec)
    segment = episode.segments[0]
    texts = ["".join(form.tokenizer.pieces(segment.token_ids[s.start : s.end])).strip() for s in segment.sections]
    assert [s.kind for s in segment.sections] == ["plan", "think", "call", "think", "plan", "answer"]
    assert texts[1] == "<think>naïve 中文</think>"
    assert texts[-1] == "<answer>word7</answer>"
    assert episode.section_tokens("think") == len("<think>naïve 中文</think><think>hm</think>".encode())


async def test_nothing_is_tokenised_twice_in_a_chat(
    echo_spec: EnvSpec, chat_tokenizer: "PreTrainedTokenizerBase"
) -> None:
    form = ChatFormat(chat_tokenizer)
    agent, engine = agent_saying(TEXTS, form)
    # Ids that no tokenizer would give for their text: "e", "c", "h", "o" one by one.
    engine.turns[1] = [*(form.tokenizer.encode(c)[0] for c in "echo echo"), form.stop_token_ids[0]]
    episode = await roll_out(agent, echo_spec)
    turn = episode.turns[1]
    assert form.tokenizer.encode_turn(turn.text) != engine.turns[1][:-1]
    assert engine.prompts[2][turn.start : turn.end] == engine.turns[1]


async def test_a_turn_that_was_cut_is_closed_and_counted(echo_spec: EnvSpec) -> None:
    form = PlainFormat(ByteTokenizer())
    agent, _ = agent_saying(TEXTS, form)
    agent.sampling = SamplingParams(max_tokens=20)
    spec = EnvSpec(id=echo_spec.id, kwargs={"budget": {"turns": 2}})
    episode = await roll_out(agent, spec)
    segment = episode.segments[0]
    assert [turn.end - turn.start for turn in episode.turns] == [20, 20]
    assert segment.token_ids[episode.turns[0].end] == form.stop_token_ids[0]
    assert segment.sampled[episode.turns[0].end] == 0
    assert (episode.status, episode.stop_reason) == (Status.TRUNCATED, "turns")
    assert await replay_episode(episode) == []


async def test_the_budget_of_tokens_bounds_every_turn(echo_spec: EnvSpec) -> None:
    spec = EnvSpec(id=echo_spec.id, kwargs={"budget": {"sampled_tokens": 200}})
    agent, engine = agent_saying(TEXTS, PlainFormat(ByteTokenizer()))
    episode = await roll_out(agent, spec)
    assert episode.sampled_tokens() == 200
    assert (episode.stop_reason, episode.reward) == ("sampled_tokens", 0.0)
    assert [params.max_tokens for params in engine.params] == [
        200 - sum(turn.end - turn.start for turn in episode.turns[:n]) for n in range(len(episode.turns))
    ]
    assert await replay_episode(episode) == []


async def test_a_full_context_truncates(echo_spec: EnvSpec) -> None:
    form = PlainFormat(ByteTokenizer())
    env = echo_spec.make()
    env.reset(options={"task": 7})
    opening = len(form.opening(env))
    for limit, turns in ((opening - 5, 0), (opening, 0), (opening + 30, 1)):
        agent, _ = agent_saying(TEXTS, form, context_limit=limit)
        episode = await roll_out(agent, echo_spec)
        assert (episode.status, episode.stop_reason, len(episode.turns)) == (Status.TRUNCATED, "context", turns)
        assert await replay_episode(episode) == []


async def test_an_infrastructure_fault_leaves_no_episode(echo_spec: EnvSpec) -> None:
    agent, engine = agent_saying(TEXTS, PlainFormat(ByteTokenizer()), fault_at=1)
    with pytest.raises(InfrastructureFault):
        await roll_out(agent, echo_spec)
    assert engine.released == [engine.sessions[0]]


async def test_sampling_is_seeded_by_the_episode_and_turn_alone(echo_spec: EnvSpec) -> None:
    async def seeds(**request: Any) -> list[int | None]:
        agent, engine = agent_saying(TEXTS, PlainFormat(ByteTokenizer()))
        await roll_out(agent, echo_spec, **request)
        return [params.seed for params in engine.params]

    first = await seeds(attempt=0, seed=1)
    assert first == await seeds(attempt=0, seed=1)
    others = [*await seeds(attempt=1, seed=1), *await seeds(attempt=0, seed=2)]
    assert len({*first, *others}) == 9


async def test_the_same_episode_twice_in_flight_has_two_sessions(echo_spec: EnvSpec) -> None:
    agent, engine = agent_saying([*TEXTS, *TEXTS], PlainFormat(ByteTokenizer()))
    await roll_out(agent, echo_spec)
    await roll_out(agent, echo_spec)
    assert len(set(engine.sessions)) == 2
    assert set(engine.released) == set(engine.sessions)


async def test_an_engine_that_samples_nothing_gives_a_format_error(echo_spec: EnvSpec) -> None:
    form = PlainFormat(ByteTokenizer())
    agent, engine = agent_saying(TEXTS, form)
    engine.turns[0] = []
    episode = await roll_out(agent, EnvSpec(id=echo_spec.id, kwargs={"budget": {"turns": 1}}))
    assert episode.turns[0].error == "missing_act"


async def test_scripts_see_the_observations_and_may_end_early(echo_spec: EnvSpec) -> None:
    seen = []

    def script(env: ToolEnv) -> Script:
        seen.append((yield env.codec.write_turn(plan=["ask"], calls=[Call("echo_later", {"text": "中"})])))

    episode = await roll_out(ScriptedAgent(script), EnvSpec(id=echo_spec.id, kwargs={"budget": {"turns": 3}}))
    assert seen == ["<tool_response>\n中\n</tool_response>"]
    assert [turn.text for turn in episode.turns][1:] == ["", ""]
    assert (episode.stop_reason, episode.segments[0].logprobs) == ("turns", [0.0] * len(episode.segments[0].token_ids))


@pytest.mark.parametrize("text", ["\ud800\x00 中文", "<plan>\n1. \ud800\n</plan>\n<answer>\ud800</answer>"])
async def test_hostile_text_survives_a_rollout(
    text: str, echo_spec: EnvSpec, chat_tokenizer: "PreTrainedTokenizerBase"
) -> None:
    def script(env: ToolEnv) -> Script:
        yield text
        yield env.codec.write_turn(plan=["ask"], calls=[Call("echo", {"text": text + "</tool_call>"})])

    spec = EnvSpec(id=echo_spec.id, kwargs={"budget": {"turns": 2}})
    task = Task(id="hostile\ud800", prompt=text)
    for form in (PlainFormat(ByteTokenizer()), ChatFormat(chat_tokenizer)):
        episode = await rollout_episode(spec.make(), spec, ScriptedAgent(script, form), EpisodeRequest(task=task))
        assert await replay_episode(episode) == []
        assert all(math.isfinite(p) for p in episode.segments[0].logprobs)
