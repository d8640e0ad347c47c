"""What an environment costs beside the model: microseconds of a turn, milliseconds of a traced episode.

    python examples/benchmarks/env_overhead.py
    python examples/benchmarks/env_overhead.py --peer-python ~/gem/bin/python     # the turn of GEM's ToolEnvWrapper too

Medians over batches; the environments have one fixed task, so that nothing but the package is measured. With
`--peer-python`, an interpreter that has gem-llm runs the same turns back to back (skipped when it has not).
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium

from forethought.agents import EnvSpec, EpisodeRequest, EpisodeWriter, ScriptedAgent, run_rollouts
from forethought.envs import Task, ToolEnv, tool
from forethought.envs.protocol import Call

ANSWER = "<answer>\n42\n</answer>"
TURN = "<plan>\n1. look at it\n</plan>\n<think>so it goes</think>\n<answer>\n42\n</answer>"
CALL = '<plan>\n1. look\n</plan>\n<tool_call>\n{"name": "%s", "arguments": {"key": "a b c", "k": 3}}\n</tool_call>'
PEER = """
import statistics, sys, time
from gem.core import Env
from gem.tools.python_code_tool import PythonCodeTool
from gem.tools.tool_env_wrapper import ToolEnvWrapper

class One(Env):
    def reset(self, seed=None):
        return "question", {}
    def step(self, action):
        return "", float("42" in action), True, False, {}

env = ToolEnvWrapper(One(), [PythonCodeTool()])
turn = sys.argv[1]
samples = []
for _ in range(51):
    began = time.perf_counter()
    for _ in range(2000):
        env.reset(); env.step(turn)
    samples.append((time.perf_counter() - began) / 2000)
print(statistics.median(samples) * 1e6)
"""


class OneTask(ToolEnv):
    """One task, one tool in four kinds."""

    def __init__(self, **options: Any) -> None:
        super().__init__([Task(id="only", prompt="What is it?", answer="42")], **{"budget": {"turns": None}} | options)

    @tool(timeout=None)
    def look(self, key: str, k: int = 5) -> str:
        """Look it up."""
        return "found"

    @tool(timeout=10)
    def look_in_thread(self, key: str, k: int = 5) -> str:
        """Look it up, in a thread that may hang."""
        return "found"

    @tool(timeout=10)
    async def look_async(self, key: str, k: int = 5) -> str:
        """Look it up, as a coroutine that may hang."""
        return "found"

    @tool(timeout=60)
    async def wait(self, seconds: float) -> str:
        """Take a while."""
        await asyncio.sleep(seconds)
        return "done"

    def score(self, answer: str | None) -> dict[str, float]:
        """Whether it is 42."""
        return {"correct": float(answer == self.task.answer)}


gymnasium.register("forethought-benchmarks/OneTask-v0", OneTask)
SPEC = EnvSpec(id="forethought-benchmarks/OneTask-v0")


def report(name: str, value: float, unit: str, goal: float | None = None) -> None:
    against = "" if goal is None else f"   goal {goal:g} {unit}  {'ok' if value <= goal else 'MISSED'}"
    print(f"{name:58} {value:10.3f} {unit}{against}", flush=True)


def microseconds(work: Callable[[], object], repeats: int, batches: int = 51) -> float:
    samples = []
    for _ in range(batches):
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        samples.append((time.perf_counter() - began) / repeats)
    return statistics.median(samples) * 1e6


def turns() -> None:
    kinds: tuple[tuple[str, str, str, float | None], ...] = (
        ("answer (mode bare)", "bare", ANSWER, 6),
        ("plan, thought and answer (mode plan)", "plan", TURN, None),
    )
    for what, mode, turn, goal in kinds:
        pool = [gymnasium.make(SPEC.id, mode=mode) for _ in range(500)]
        samples = []
        for _ in range(51):
            for each in pool:
                each.reset()
            began = time.perf_counter()
            for each in pool:
                each.step(turn)
            samples.append((time.perf_counter() - began) / len(pool))
        report(f"turn through gymnasium.make: {what}", statistics.median(samples) * 1e6, "us", goal)
        env = pool[0]

        def both(env: gymnasium.Env[str, str] = env, turn: str = turn) -> None:
            env.reset()
            env.step(turn)

        report("... with the reset before it", microseconds(both, 1000), "us")
    env = gymnasium.make(SPEC.id)
    env.reset()
    for name, limit, repeats in (("look", 40.0, 500), ("look_async", None, 100), ("look_in_thread", None, 50)):
        turn = CALL % name
        observation = env.step(turn)[0]
        assert "found" in observation, observation
        cost = microseconds(functools.partial(env.step, turn), repeats)
        report(f"turn with a validated call of `{name}`", cost, "us", limit)


def peer(python: str) -> None:
    done = subprocess.run([python, "-W", "ignore", "-c", PEER, ANSWER], capture_output=True, text=True)
    if done.returncode:
        print(f"GEM skipped: {done.stderr.strip().splitlines()[-1]}")
    else:
        report("GEM ToolEnvWrapper, reset and a turn without a tool", float(done.stdout.split()[-1]), "us")


def three_turns(env: ToolEnv) -> Iterator[str]:
    yield env.codec.write_turn(plan=["look", "answer"], calls=[Call("look", {"key": "a"}, 1)])
    yield env.codec.write_turn(think="once more", calls=[Call("look", {"key": "b"}, 1)])
    yield env.codec.write_turn(answer="42")


def waiting(seconds: float) -> Callable[[ToolEnv], Iterator[str]]:
    def script(env: ToolEnv) -> Iterator[str]:
        yield env.codec.write_turn(plan=["wait", "answer"], calls=[Call("wait", {"seconds": seconds}, 1)])
        yield env.codec.write_turn(answer="42")

    return script


async def roll_out(script: Any, count: int, concurrency: int, writer: EpisodeWriter | None = None) -> float:
    task = SPEC.make().tasks[0]
    began = time.perf_counter()
    wanted = (EpisodeRequest(task=task, attempt=i) for i in range(count))
    async for episode in run_rollouts(wanted, SPEC, ScriptedAgent(script), concurrency=concurrency):
        assert episode.reward == 1.0
        if writer is not None:
            writer.append(episode)
    return time.perf_counter() - began


def traced_episodes() -> None:
    samples = []
    for _ in range(9):
        with tempfile.TemporaryDirectory() as folder, EpisodeWriter(folder) as writer:
            samples.append(asyncio.run(roll_out(three_turns, 500, 8, writer)) / 500 * 1e3)
    report("scripted episode of 3 turns, trace written", statistics.median(samples), "ms", 0.3)


def import_time() -> None:
    code = "import time; t = time.perf_counter(); import forethought.envs; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(15)]
    report("import forethought.envs in a new process", statistics.median(float(r.stdout) for r in runs), "s", 0.3)


def concurrency() -> None:
    sampling = asyncio.run(roll_out(waiting(0.0), 1000, 1000))
    slow = asyncio.run(roll_out(waiting(1.0), 1000, 1000))
    report("1,000 concurrent episodes, sampling alone", sampling, "s")
    report("... whose tool takes 1 s: more than that", slow - sampling, "s", 2)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(episodes: int) -> None:
    asyncio.run(roll_out(three_turns, episodes // 10, 64))
    first = resident_mib()
    asyncio.run(roll_out(three_turns, episodes - episodes // 10, 64))
    report(f"resident memory after {episodes // 10:,} episodes", first, "MiB")
    report(f"... after {episodes:,}", resident_mib(), "MiB", round(first + 5, 1))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peer-python", help="an interpreter with gem-llm")
    arguments.add_argument("--episodes", type=int, default=100_000, help="for the memory; 0 skips it")
    options = arguments.parse_args()
    turns()
    if options.peer_python:
        peer(options.peer_python)
    traced_episodes()
    import_time()
    concurrency()
    if options.episodes:
        memory(options.episodes)


if __name__ == "__main__":
    main()
