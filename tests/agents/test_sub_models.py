"""Sub-models: parts of a task handed to the policy itself or to frozen models."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from forethought.agents import (
    ContextWindow,
    EnvSpec,
    Episode,
    EpisodeRequest,
    EpisodeStore,
    EpisodeWriter,
    ScriptedAgent,
    SegmentKind,
    Status,
    collect_rollouts,
    replay_episode,
)
from forethought.agents.evaluation.records import EpisodeRecord
from forethought.agents.interventions import SwapAnswers
from forethought.agents.text_model import TextAnswer
from forethought.envs import Call, SubTaskEnv, Task, ToolEnv, tool
from forethought.envs.conformance import Script
from forethought.sandboxes import InfrastructureFault


class SumEnv(ToolEnv):
    """Sums of two numbers; the tool adds."""

    meeting: asyncio.Barrier | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__([Task(id="sums", prompt="1 + 2 and 3 + 4", answer="3 7")], **options)
        self.added: list[int] = []

    def begin(self) -> None:
        self.added = []

    @tool(timeout=None)
    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        self.added.append(a + b)
        return a + b

    @tool
    async def meet(self) -> str:
        """Wait until somebody else comes."""
        assert SumEnv.meeting is not None
        await SumEnv.meeting.wait()
        return "met"

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer), "added": float(sum(self.added))}


@pytest.fixture
def spec() -> Iterator[EnvSpec]:
    gymnasium.register("tests/Sum-v0", SumEnv)
    yield EnvSpec(id="tests/Sum-v0", kwargs={"sub_models": ["self"]})
    del gymnasium.registry["tests/Sum-v0"]


def with_options(spec: EnvSpec, **options: Any) -> EnvSpec:
    return EnvSpec(id=spec.id, kwargs={**spec.kwargs, **options})


def ask(task: str, **arguments: str) -> Call:
    return Call("ask", {"task": task, **arguments})


def outputs(observation: str) -> list[str]:
    return [part.split("\n</tool")[0] for part in observation.split("<tool_response>\n")[1:]]


def adds(env: ToolEnv) -> Script:
    a, b = env.task.prompt.split(" + ")
    observation = yield env.codec.write_turn(plan=["add"], calls=[Call("add", {"a": int(a), "b": int(b)})])
    yield env.codec.write_turn(answer=outputs(observation)[0])


def in_parallel(env: ToolEnv) -> Script:
    if env.parent is not None:
        yield from adds(env)
        return
    observation = yield env.codec.write_turn(plan=["ask for both"], calls=[ask("1 + 2"), ask("3 + 4")])
    yield env.codec.write_turn(answer=" ".join(outputs(observation)))


async def roll_out(spec: EnvSpec, script: Any, **agent: Any) -> Episode:
    task = spec.make().tasks[0]
    (episode,) = await collect_rollouts([EpisodeRequest(task=task, seed=1)], spec, ScriptedAgent(script, **agent))
    return episode


async def test_sub_tasks_are_segments_of_the_tree(spec: EnvSpec) -> None:
    episode = await roll_out(spec, in_parallel)
    assert episode.scores == {"correct": 1.0, "added": 10.0}, "sub-tasks use the tools of the episode"
    root, *children = episode.segments
    asking = episode.turns[0]
    assert [s.kind for s in children] == [SegmentKind.SUB_CALL] * 2
    assert [s.parent for s in children] == [(0, asking.end)] * 2
    assert [(c.model, c.child, c.output, c.stop_reason) for c in asking.calls] == [
        ("self", 1, "3", "answered"), ("self", 2, "7", "answered")
    ]  # fmt: skip
    assert [turn.segment for turn in episode.turns] == [0, 1, 1, 2, 2, 0]
    assert [turn.segment for turn in episode.turns_of(2)] == [2, 2]
    assert [episode.depth_of(i) for i in range(3)] == [0, 1, 1]
    for turn in episode.turns:
        segment = episode.segments[turn.segment]
        assert all(segment.sampled[turn.start : turn.end])
    assert [call.sampled_tokens for call in asking.calls] == [sum(s.sampled) for s in children]
    assert episode.usage["sampled_tokens"] == sum(sum(s.sampled) for s in episode.segments)
    assert (episode.usage["sub_calls"], episode.usage["turns"]) == (2, 2)
    assert "1 + 2" in bytes(t for t in children[0].token_ids if t < 256).decode()
    assert [len(episode.plans), episode.plans[1].turn] == [3, 1]
    longest = max(sum(s.sampled) for s in children)
    assert EpisodeRecord.of(episode).critical_tokens == sum(root.sampled) + longest
    assert await replay_episode(episode) == []


async def test_calls_of_one_turn_run_at_the_same_time(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        if env.parent is None:
            yield env.codec.write_turn(plan=["meet"], calls=[ask("meet"), ask("meet")])
        else:
            yield env.codec.write_turn(plan=["meet"], calls=[Call("meet", {})])
        yield env.codec.write_turn(answer="met")

    SumEnv.meeting = asyncio.Barrier(2)
    episode = await asyncio.wait_for(roll_out(spec, script), 20)
    assert [call.output for call in episode.turns[0].calls] == ["met", "met"]


async def test_order_in_the_record_is_that_of_the_calls(spec: EnvSpec) -> None:
    @dataclass
    class Slow:
        inner: Any
        context_limit: int = 10**6

        async def sample(self, *args: Any, **options: Any) -> Any:
            await asyncio.sleep(random.random() / 100)
            return await self.inner.sample(*args, **options)

        def release(self, session: str) -> None: ...

        async def close(self) -> None: ...

    class SlowAgent(ScriptedAgent):
        def engine_for(self, env: ToolEnv) -> Any:
            return Slow(super().engine_for(env))

    def script(env: ToolEnv) -> Script:
        if env.parent is not None:
            yield from adds(env)
        else:
            calls = [ask(f"{i} + {i}") for i in range(8)]
            observation = yield env.codec.write_turn(plan=["ask"], calls=calls)
            yield env.codec.write_turn(answer=" ".join(outputs(observation)))

    records = []
    for _ in range(3):
        request = EpisodeRequest(task=spec.make().tasks[0], seed=1)
        (episode,) = await collect_rollouts([request], spec, SlowAgent(script))
        assert episode.answer == "0 2 4 6 8 10 12 14"
        records.append([(turn.text, turn.segment, turn.start) for turn in episode.turns])
    assert records[0] == records[1] == records[2]


async def test_sub_tasks_nest_to_the_depth_of_the_budget(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        observation = yield env.codec.write_turn(plan=["deeper"], calls=[ask("deeper")])
        yield env.codec.write_turn(answer=f"{env.depth} {outputs(observation)[0]}")

    episode = await roll_out(with_options(spec, budget={"depth": 3}), script)
    assert episode.answer == ("0 1 2 3 Error: there is no tool 'ask'; the tools are add, meet")
    assert [s.parent and s.parent[0] for s in episode.segments] == [None, 0, 1, 2]
    assert [episode.depth_of(i) for i in range(4)] == [0, 1, 2, 3]
    assert episode.usage["sub_calls"] == 3
    nested = [turn.calls[0] for turn in episode.turns if turn.calls and turn.calls[0].model]
    assert nested[0].sampled_tokens > nested[1].sampled_tokens > nested[2].sampled_tokens
    assert await replay_episode(episode) == []


async def test_a_sub_task_may_summarise(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        if env.parent is not None:
            yield env.codec.write_turn(plan=["sum up"], summary="it is 3")
            yield env.codec.write_turn(answer="3")
        else:
            observation = yield env.codec.write_turn(plan=["ask"], calls=[ask("sum up")])
            yield env.codec.write_turn(summary=outputs(observation)[0])
            yield env.codec.write_turn(answer="3 7")

    episode = await roll_out(spec, script, window=ContextWindow(policy="learned"))
    kinds = [(str(s.kind), s.parent and s.parent[0]) for s in episode.segments]
    assert kinds == [("root", None), ("sub_call", 0), ("after_summary", 1), ("after_summary", 0)]
    assert [episode.task_of(i) for i in range(4)] == [0, 1, 1, 0]
    assert [episode.depth_of(i) for i in range(4)] == [0, 1, 1, 0]
    assert await replay_episode(episode) == []


async def test_budgets_of_calls_and_width(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        if env.parent is not None:
            yield from adds(env)
            return
        yield env.codec.write_turn(plan=["ask"], calls=[ask("1 + 1"), ask("2 + 2"), ask("3 + 3")])
        yield env.codec.write_turn(calls=[ask("4 + 4"), ask("5 + 5")])
        yield env.codec.write_turn(answer="3 7")

    episode = await roll_out(with_options(spec, budget={"width": 2, "sub_calls": 3}), script)
    asking = [turn for turn in episode.turns_of() if turn.calls]
    assert [[call.output for call in turn.calls] for turn in asking] == [
        ["2", "4", "Error: no more than 2 calls to sub-models in one turn"],
        ["8", "Error: no calls to sub-models left"],
    ]
    assert [call.error for turn in asking for call in turn.calls] == [None, None, "budget", None, "budget"]
    assert episode.usage["sub_calls"] == 3
    assert await replay_episode(episode) == []


async def test_tokens_are_budgeted_over_the_tree(spec: EnvSpec) -> None:
    whole = await roll_out(spec, in_parallel)
    first_turn = whole.turns[0].end - whole.turns[0].start
    limit = first_turn + 30
    episode = await roll_out(with_options(spec, budget={"sampled_tokens": limit}), in_parallel)
    assert episode.stop_reason == "sampled_tokens" and episode.status is Status.TRUNCATED
    assert [call.stop_reason for call in episode.turns[0].calls][1] == "sampled_tokens"
    assert await replay_episode(episode) == []


async def test_a_sub_task_that_fails_is_an_observation(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        if env.parent is None:
            observation = yield env.codec.write_turn(plan=["ask"], calls=[ask("never end"), ask("1 + 2"), ask(" ")])
            yield env.codec.write_turn(answer=" | ".join(outputs(observation)))
        elif env.task.prompt == "never end":
            while True:
                yield "no"
        else:
            yield from adds(env)

    episode = await roll_out(with_options(spec, budget={"turns": 3}), script)
    assert episode.answer == (
        "Error: the sub-model gave no answer (turns) | 3 | Error: expected a task to hand over, found an empty one"
    )
    assert [call.error for call in episode.turns[0].calls] == ["tool_error", None, "tool_error"]
    assert await replay_episode(episode) == []


@dataclass
class Frozen:
    """A frozen sub-model that says what it was asked."""

    name: str = "big"
    asked: list[str] = field(default_factory=list)
    outages: int = 0

    async def answer(self, prompt: str) -> TextAnswer:
        self.asked.append(prompt)
        if self.outages:
            self.outages -= 1
            raise InfrastructureFault("the server is gone")
        return TextAnswer(text=f"about {prompt}", input_tokens=10, output_tokens=20, cost=0.25)


def asks_big(env: ToolEnv) -> Script:
    observation = yield env.codec.write_turn(
        plan=["ask"], calls=[ask("a", model="big"), ask("b", context="given", model="big")]
    )
    yield env.codec.write_turn(answer=outputs(observation)[1])


async def test_frozen_models_answer_but_are_not_trained(spec: EnvSpec) -> None:
    big = Frozen()
    spec = with_options(spec, sub_models=["self", "big"])
    episode = await roll_out(spec, asks_big, sub_models={"big": big})
    assert big.asked == ["a", "b\n\ngiven"] and episode.answer == "about b\n\ngiven"
    assert len(episode.segments) == 1 and episode.usage["cost"] == 0.5
    call = episode.turns[0].calls[1]
    assert (call.model, call.child, call.sampled_tokens, call.cost) == ("big", None, 20, 0.25)
    big.asked.clear()
    assert await replay_episode(episode) == [] and big.asked == [], "a replay uses the recorded answers"


async def test_an_unreachable_model_is_a_fault_and_never_a_score(spec: EnvSpec) -> None:
    spec = with_options(spec, sub_models=["self", "big"])
    episode = await roll_out(spec, asks_big, sub_models={"big": Frozen(outages=1)})
    assert episode.status is Status.COMPLETED and episode.retries == 1
    episode = await roll_out(spec, asks_big, sub_models={"big": Frozen(outages=100)})
    assert episode.status is Status.FAULT and episode.scores == {}


async def test_an_agent_without_the_model_is_told(spec: EnvSpec) -> None:
    with pytest.raises(ValueError, match="lets its policy ask the sub-model 'big'; this agent has self"):
        await roll_out(with_options(spec, sub_models=["self", "big"]), asks_big)


def test_the_tool_is_declared_with_the_models_there_are(spec: EnvSpec) -> None:
    def parameters(*models: str) -> Any:
        (tool,) = [t for t in with_options(spec, sub_models=models).make().toolbox.tools if t.name == "ask"]
        return tool.parameters

    assert list(parameters("self")["properties"]) == ["task", "context"]
    assert parameters("self", "big")["properties"]["model"]["enum"] == ["self", "big"]
    assert [t.name for t in with_options(spec, sub_models=()).make().toolbox.tools] == ["add", "meet"]


def test_an_environment_alone_has_nobody_to_ask(spec: EnvSpec) -> None:
    env = spec.make()
    env.reset(seed=0)
    observation, *_ = env.step(env.codec.write_turn(plan=["ask"], calls=[ask("1 + 2")]))
    assert "no sub-model can be asked here" in observation


@pytest.mark.parametrize("tampered", ["child turn", "child observation", "answer", "lost child"])
async def test_a_changed_tree_is_found(tampered: str, spec: EnvSpec) -> None:
    episode = await roll_out(spec, in_parallel)
    child = episode.turns_of(1)
    if tampered == "child turn":
        child[1].text = child[1].text.replace("3", "4")
    elif tampered == "child observation":
        child[0].observation = child[0].observation.replace("3", "4")
    elif tampered == "answer":
        episode.turns[0].observation = episode.turns[0].observation.replace("3", "4")
    else:
        episode.turns[0].calls.pop()
    assert await replay_episode(episode) != []


async def test_trees_survive_the_disk(spec: EnvSpec, tmp_path: Path) -> None:
    spec = with_options(spec, sub_models=["self", "big"])

    def script(env: ToolEnv) -> Script:
        yield from in_parallel(env) if env.parent is not None or env.asked else asks_both(env)

    def asks_both(env: ToolEnv) -> Script:
        observation = yield env.codec.write_turn(plan=["ask"], calls=[ask("1 + 2"), ask("x", model="big")])
        yield env.codec.write_turn(answer=" ".join(outputs(observation)))

    episode = await roll_out(spec, script, sub_models={"big": Frozen()})
    with EpisodeWriter(tmp_path) as writer:
        writer.append(episode)
    (stored,) = EpisodeStore(tmp_path)
    assert stored.turns[0].calls == episode.turns[0].calls and stored.segments == episode.segments
    assert await replay_episode(stored) == []


def test_a_sub_task_stands_for_its_parent(spec: EnvSpec) -> None:
    env = with_options(spec, budget={"depth": 2}, mode="think", spelling="words", max_output=99).make()
    env.reset(seed=4)
    child = SubTaskEnv(env, "1 + 2", 0)
    assert (child.depth, child.root, child.parent) == (1, env, env)
    assert (child.mode, child.codec, child.toolbox.max_output) == (env.mode, env.codec, 99)
    assert [t.name for t in child.toolbox.tools] == ["add", "meet", "ask"]
    assert [t.name for t in SubTaskEnv(child, "x", 0).toolbox.tools] == ["add", "meet"]
    child.step("<answer> 3 </answer>")
    assert env.usage.sampled_tokens == child.usage.sampled_tokens == 3


async def test_swapped_answers_come_from_other_tasks(spec: EnvSpec) -> None:
    def script(env: ToolEnv) -> Script:
        if env.parent is not None:
            yield env.codec.write_turn(plan=["say"], answer=env.task.prompt)
        else:
            observation = yield env.codec.write_turn(plan=["ask"], calls=[ask(env.task.id), ask(env.task.id)])
            yield env.codec.write_turn(answer=" ".join(outputs(observation)))

    requests = [EpisodeRequest(task=Task(id=f"task{i}", prompt="?", answer="")) for i in range(20)]
    agent = ScriptedAgent(script, intervention=SwapAnswers())
    episodes = await collect_rollouts(requests, spec, agent, concurrency=4)
    assert all(episode.task_id not in (episode.answer or "").split() for episode in episodes)
    assert sum("task" in (episode.answer or "") for episode in episodes) >= 18
    assert episodes[0].window["intervention"] == "swap_answers"
    assert "made under the intervention swap_answers" in (await replay_episode(episodes[0]))[0]
