import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from forethought.agents import (
    Agent,
    EnvSpec,
    EpisodeRequest,
    ModelAgent,
    PlainFormat,
    Sample,
    SamplingParams,
    ScriptedAgent,
    Status,
    collect_rollouts,
    run_rollouts,
)
from forethought.agents.tokenizers import ByteTokenizer
from forethought.envs import ToolEnv
from forethought.envs.conformance import Script
from forethought.envs.protocol import Call


def solve(env: ToolEnv) -> Script:
    yield env.codec.write_turn(plan=["ask"], calls=[Call("echo", {"text": env.task.answer})])
    yield env.codec.write_turn(answer=env.task.answer)


def solve_slowly(env: ToolEnv) -> Script:
    number = int(env.task.id[1:])
    yield env.codec.write_turn(
        plan=["ask"], calls=[Call("echo_later", {"text": "a", "seconds": 0.3 if number == 0 else 0.01})]
    )
    yield env.codec.write_turn(answer=env.task.answer)


def rely(env: ToolEnv) -> Script:
    yield env.codec.write_turn(plan=["ask"], calls=[Call("unreliable", {})])
    yield env.codec.write_turn(answer=env.task.answer)


def requests(spec: EnvSpec, count: int = 5) -> list[EpisodeRequest]:
    tasks = spec.make().tasks
    return [EpisodeRequest(task=tasks[i % len(tasks)], attempt=i // len(tasks)) for i in range(count)]


async def test_episodes_come_in_the_order_of_the_requests(echo_spec: EnvSpec) -> None:
    wanted = requests(echo_spec, 150)
    episodes = await collect_rollouts(wanted, echo_spec, ScriptedAgent(solve), concurrency=7)
    assert [episode.id for episode in episodes] == [request.id for request in wanted]
    assert {episode.reward for episode in episodes} == {1.0}
    assert await collect_rollouts([], echo_spec, ScriptedAgent(solve)) == []


async def test_a_straggler_holds_up_nobody(echo_spec: EnvSpec) -> None:
    order = [
        e.task_id
        async for e in run_rollouts(requests(echo_spec, 20), echo_spec, ScriptedAgent(solve_slowly), concurrency=5)
    ]
    assert order[-1] == "e0"
    assert len(order) == 20


async def test_slow_tools_overlap(echo_spec: EnvSpec) -> None:
    def rest(env: ToolEnv) -> Script:
        yield env.codec.write_turn(plan=["rest"], calls=[Call("echo_later", {"text": "a", "seconds": 0.5})])
        yield env.codec.write_turn(answer="a")

    began = time.perf_counter()
    episodes = await collect_rollouts(requests(echo_spec, 100), echo_spec, ScriptedAgent(rest))
    assert len(episodes) == 100
    assert time.perf_counter() - began < 10  # one after the other: 50 s


async def test_requests_are_taken_as_there_is_room(echo_spec: EnvSpec) -> None:
    taken = 0

    def endless() -> Iterator[EpisodeRequest]:
        nonlocal taken
        task = echo_spec.make().tasks[0]
        while True:
            taken += 1
            yield EpisodeRequest(task=task, attempt=taken)

    seen = 0
    stream = run_rollouts(endless(), echo_spec, ScriptedAgent(solve), concurrency=4)
    async for _ in stream:
        seen += 1
        if seen == 50:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert taken <= 50 + 3 * 4


async def test_a_fault_is_tried_again(echo_spec: EnvSpec, set_outages: Callable[[int], None]) -> None:
    set_outages(2)
    [episode] = await collect_rollouts(requests(echo_spec, 1), echo_spec, ScriptedAgent(rely))
    assert (episode.status, episode.retries, episode.reward) == (Status.COMPLETED, 2, 1.0)


async def test_a_fault_that_stays_is_no_reward(echo_spec: EnvSpec, set_outages: Callable[[int], None]) -> None:
    set_outages(3)
    first, second = await collect_rollouts(requests(echo_spec, 2), echo_spec, ScriptedAgent(rely), concurrency=1)
    assert (first.status, first.stop_reason, first.retries) == (Status.FAULT, "fault", 2)
    assert first.fault == "InfrastructureFault: the echo server is gone"
    assert (first.scores, first.segments, first.turns) == ({}, [], [])
    assert second.status is Status.COMPLETED


class BrokenEngine:
    context_limit = 10**6

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        raise self._error

    def release(self, session: str) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), asyncio.CancelledError()], ids=["bug", "cancelled"])
async def test_a_bug_is_raised_and_does_not_hang(error: BaseException, echo_spec: EnvSpec) -> None:
    agent: Agent = ModelAgent(engine=BrokenEngine(error), format=PlainFormat(ByteTokenizer()))
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        await asyncio.wait_for(collect_rollouts(requests(echo_spec, 20), echo_spec, agent, concurrency=3), 20)


async def test_cancelling_ends_all_workers(echo_spec: EnvSpec) -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(collect_rollouts(requests(echo_spec, 20), echo_spec, ScriptedAgent(solve_slowly)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before
