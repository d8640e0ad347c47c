import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import pytest
from gymnasium.error import ResetNeeded

from forethought.envs import Budget, Task, ToolEnv, ToolError, tool
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.protocol import Call
from forethought.sandboxes import InfrastructureFault

TASKS = [Task(id=f"t{i}", prompt=f"what is in drawer {i}?", answer=f"thing {i}") for i in range(5)]


class DrawerEnv(ToolEnv):
    """Look into drawers; every kind of tool, and some that misbehave."""

    score_weights: ClassVar[Mapping[str, float]] = {"correct": 1.0, "looked": 0.0}

    def __init__(self, tasks: Any = TASKS, **options: Any) -> None:
        super().__init__(tasks, **options)

    def begin(self) -> None:
        self.looked: list[int] = []
        self.together = threading.Barrier(2, timeout=20)

    @tool(timeout=None)
    def look(self, drawer: int) -> str:
        """Look into a drawer."""
        if drawer >= len(TASKS):
            raise ToolError(f"there is no drawer {drawer}")
        self.looked.append(drawer)
        return f"thing {drawer}"

    @tool(timeout=20)
    def look_slowly(self, drawer: int) -> str:
        """Look, in a thread."""
        return self.look(drawer)

    @tool(timeout=20)
    async def look_async(self, drawer: int) -> str:
        """Look, as a coroutine."""
        await asyncio.sleep(0.001 * (5 - drawer))
        return self.look(drawer)

    @tool(timeout=20)
    def meet(self) -> str:
        """Return when two calls are here."""
        self.together.wait()
        return "met"

    @tool(timeout=20)
    async def rest(self, seconds: float) -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return "rested"

    @tool(timeout=20)
    async def fail_infrastructure(self) -> str:
        """Break."""
        raise InfrastructureFault("the cupboard is gone")

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer), "looked": len(self.looked)}


def turn(*calls: Call, plan: bool = True, answer: str | None = None, spelling: str = "json") -> str:
    env = DrawerEnv(spelling=spelling)
    return env.codec.write_turn(plan=["look"] if plan else None, calls=calls, answer=answer)


def look(drawer: int, name: str = "look") -> Call:
    return Call(name, {"drawer": drawer})


@pytest.fixture
def env() -> DrawerEnv:
    env = DrawerEnv()
    env.reset(seed=0, options={"task": 3})
    return env


class TestDrawers(EnvConformance):
    """Three turns: one call, two concurrent ones, the answer."""

    spelling = "json"

    def make(self, **kwargs: Any) -> ToolEnv:
        return DrawerEnv(**{"spelling": self.spelling} | kwargs)

    def solve(self, env: ToolEnv) -> Script:
        drawer = int(env.task.id[1:])
        by_name = env.codec.spelling == "json"
        given: Any = {"drawer": drawer} if by_name else (str(drawer),)
        found = yield env.codec.write_turn(plan=["look"], calls=[Call("look", given, 1)])
        yield env.codec.write_turn(calls=[Call("look_async", given), Call("look_slowly", given)])
        yield env.codec.write_turn(answer=found.replace("<tool_response>", "").replace("</tool_response>", "").strip())


class TestDrawersInWords(TestDrawers):
    spelling = "words"


def test_reset_gives_instructions_and_task(env: DrawerEnv) -> None:
    observation, info = env.reset(seed=1)
    assert observation.startswith("Begin your first turn with a plan")
    assert '"name": "look_async"' in observation
    assert observation.endswith(env.task.prompt)
    assert info["task_id"] == env.task.id
    assert DrawerEnv(spelling="words").reset(options={"task": 2})[0] == "what is in drawer 2?"


def test_the_task_is_drawn_from_the_seed_or_chosen() -> None:
    env = DrawerEnv()
    drawn = [env.reset(seed=seed)[1]["task_id"] for seed in range(30)]
    assert drawn == [env.reset(seed=seed)[1]["task_id"] for seed in range(30)]
    assert set(drawn) == {task.id for task in TASKS}
    mine = Task(id="mine", prompt="?")
    for chosen, task_id in ((3, "t3"), (mine, "mine"), (mine.to_row(), "mine")):
        assert env.reset(options={"task": chosen})[1]["task_id"] == task_id
    with pytest.raises(TypeError, match="found the text 't3'"):
        env.reset(options={"task": "t3"})
    with pytest.raises(IndexError):
        env.reset(options={"task": 99})


def test_a_call_is_answered_in_its_own_response(env: DrawerEnv) -> None:
    observation, reward, terminated, truncated, info = env.step(turn(look(1), look(9), look(2, "look_slowly")))
    assert observation == (
        "<tool_response>\nthing 1\n</tool_response>\n"
        "<tool_response>\nError: there is no drawer 9\n</tool_response>\n"
        "<tool_response>\nthing 2\n</tool_response>"
    )
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["usage"] | {"sampled_tokens": 0} == {
        "turns": 1, "tool_calls": 3, "failed_calls": 1, "format_errors": 0, "sampled_tokens": 0,
        "summaries": 0, "sub_calls": 0, "cost": 0.0
    }  # fmt: skip


def test_an_answer_ends_the_episode_with_scores(env: DrawerEnv) -> None:
    env.step(turn(look(3)))
    observation, reward, terminated, truncated, info = env.step(turn(plan=False, answer="thing 3"))
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["scores"] == {"correct": 1.0, "looked": 1.0}
    assert info["stop_reason"] == "answered"


def test_a_format_error_changes_nothing_but_the_counts(env: DrawerEnv) -> None:
    observation, _, terminated, truncated, info = env.step("<plan>1. go</plan><tool_call>{</tool_call>")
    assert "Format error: expected a JSON object" in observation
    assert not terminated and not truncated
    assert info["error"] == "bad_call"
    assert info["usage"]["format_errors"] == 1
    assert env.plan is None
    assert env.step(turn(look(1), plan=False))[4]["error"] == "unexpected_section"  # the plan is still due


def test_a_later_plan_replaces_the_plan(env: DrawerEnv) -> None:
    env.step(turn(look(1)))
    assert env.plan is not None and len(env.plan.steps) == 1
    env.step(env.codec.write_turn(plan=["a", "b"], calls=[look(1)]))
    assert len(env.plan.steps) == 2
    env.step(turn(look(1), plan=False))
    assert len(env.plan.steps) == 2


def test_calls_of_one_turn_run_concurrently(env: DrawerEnv) -> None:
    observation = env.step(turn(Call("meet", {}), Call("meet", {})))[0]  # each waits for the other
    assert observation.count("met") == 2
    began = time.perf_counter()
    outcome = asyncio.run(env.step_async(turn(*[Call("rest", {"seconds": 0.3})] * 20, plan=False)))
    assert [call.output for call in outcome.calls] == ["rested"] * 20
    assert time.perf_counter() - began < 3


def test_a_step_works_inside_a_running_loop(env: DrawerEnv) -> None:
    async def inside() -> str:
        return env.step(turn(look(2, "look_async")))[0]

    assert "thing 2" in asyncio.run(inside())


def test_an_infrastructure_fault_is_no_observation(env: DrawerEnv) -> None:
    with pytest.raises(InfrastructureFault, match="cupboard"):
        env.step(turn(Call("fail_infrastructure", {}), Call("rest", {"seconds": 30.0})))


def test_calls_over_the_budget_are_answered_but_not_carried_out() -> None:
    env = DrawerEnv(budget={"tool_calls": 2})
    env.reset(seed=0)
    observation, _, terminated, truncated, info = env.step(turn(look(0), look(1), look(2)))
    assert env.looked == [0, 1]
    assert observation.count("no tool calls left") == 1
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "tool_calls")
    assert info["scores"] == {"correct": 0.0, "looked": 2.0}


def test_an_answer_over_the_budget_does_not_count() -> None:
    env = DrawerEnv(budget=Budget(sampled_tokens=5))
    env.reset(seed=0, options={"task": 3})
    outcome = asyncio.run(env.step_async(turn(answer="thing 3"), sampled_tokens=6))
    assert (outcome.reward, outcome.terminated, outcome.truncated) == (0.0, False, True)
    env.reset(seed=0, options={"task": 3})
    assert asyncio.run(env.step_async(turn(answer="thing 3"), sampled_tokens=5)).reward == 1.0


def test_truncate_ends_an_episode_once(env: DrawerEnv) -> None:
    outcome = env.truncate("context")
    assert (outcome.truncated, outcome.info["stop_reason"]) == (True, "context")
    with pytest.raises(ResetNeeded):
        env.truncate("context")


def test_before_the_first_reset() -> None:
    env = DrawerEnv()
    assert env.plan is None
    assert env.observation == ""
    with pytest.raises(ResetNeeded, match="task"):
        _ = env.task


def test_extra_tools_join_those_of_the_class() -> None:
    def double(n: int) -> int:
        """Twice n."""
        return 2 * n

    env = DrawerEnv(extra_tools=[double])
    env.reset(seed=0)
    assert "42" in env.step(turn(Call("double", {"n": 21})))[0]
    with pytest.raises(ValueError, match="two tools are named 'double'"):
        DrawerEnv(extra_tools=[double, double])


def test_bad_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one task"):
        DrawerEnv([])
    with pytest.raises(ValueError, match="'haste' is not a valid Mode"):
        DrawerEnv(mode="haste")
    with pytest.raises(ValueError, match="spelling must be one of"):
        DrawerEnv(spelling="xml")
    with pytest.raises(TypeError, match="turn"):
        DrawerEnv(budget={"turn": 3})
    env = DrawerEnv()
    env.reset()
    with pytest.raises(TypeError, match="a turn is a str, found bytes"):
        env.step(b"x")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_tools_may_hang_in_a_forked_process_after_their_use_here() -> None:
    """The background loop belongs to one process: a fork must make its own."""
    env = DrawerEnv()
    env.reset(seed=0)
    env.step(turn(look(1, "look_async")))
    envs = gymnasium.vector.AsyncVectorEnv([DrawerEnv] * 2, shared_memory=False, context="fork")
    try:
        envs.reset(seed=0)
        envs.step_async((turn(look(1, "look_async")), turn(look(2, "look_slowly"))))
        observations = envs.step_wait(timeout=20)[0]
        assert "thing 1" in observations[0] and "thing 2" in observations[1]
    finally:
        envs.close(terminate=True)


def test_a_tool_that_would_wait_for_itself_is_told_so() -> None:
    inner = DrawerEnv()
    inner.reset(seed=0)

    async def nested() -> str:
        """Step another environment from the loop that its tools need."""
        return inner.step(turn(look(1, "look_async")))[0]

    env = DrawerEnv(extra_tools=[nested])
    env.reset(seed=0)
    assert "use `await env.step_async(...)`" in env.step(turn(Call("nested", {})))[0]


def test_a_loop_ends_the_episode() -> None:
    env = DrawerEnv(budget={"repeats": 3})
    env.reset(options={"task": 0})
    stops = [env.step(turn(look(1), look(number)))[4]["stop_reason"] for number in (5, 6, 7)]
    assert stops == [None, None, "loop"]
    env.reset(options={"task": 0})
    assert [env.step(turn(look(n)))[4]["stop_reason"] for n in (1, 2, 1, 2)] == [None] * 4, "a new episode, other calls"


@pytest.mark.parametrize("repeats", [1, 0])
def test_it_takes_two_to_loop(repeats: int) -> None:
    with pytest.raises(ValueError, match="'repeats' must be 2 or more, or None"):
        Budget(repeats=repeats)
