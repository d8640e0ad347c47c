"""The Code environment, on small tasks and on HumanEval and GSM8K."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import EnvSpec, EpisodeRequest, ScriptedAgent, collect_rollouts, replay_episode
from forethought.envs import Call, ListedTasks, Task, TaskError, ToolEnv
from forethought.envs.code import CodeEnv, load_gsm8k, load_humaneval
from forethought.envs.code.scripts import canonical_solution, compute_gsm8k
from forethought.envs.conformance import EnvConformance, Script
from forethought.sandboxes import SandboxUnavailable
from forethought.sandboxes.backends import make_sandbox
from forethought.sandboxes.checking import check_solution

DATA = Path(os.environ.get("FORETHOUGHT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
HUMANEVAL, GSM8K = DATA / "HumanEval.jsonl.gz", DATA / "gsm8k_train.jsonl"
DOUBLE = Task(
    id="double",
    prompt="Write f(x) that doubles x.",
    metadata={
        "tests": "def check(c):\n    assert c(2) == 4\n    assert c('a') == 'aa'",
        "public_tests": "def check(c):\n    assert c(1) == 2",
        "entry_point": "f",
        "solution": "def f(x): return x + x",
    },
)
SUM = Task(id="sum", prompt="What is 2 + 3?", answer="5", metadata={"solution": "<<2+3=5>>5"})


@pytest.fixture(scope="module", autouse=True)
def _needs_a_sandbox() -> None:
    async def start() -> None:
        sandbox = make_sandbox("embedded")
        try:
            await sandbox.start()
        finally:
            await sandbox.close()

    try:
        asyncio.run(start())
    except SandboxUnavailable as error:
        pytest.skip(f"no embedded sandbox here: {error}")


class TestCode(EnvConformance):
    def make(self, **options: Any) -> ToolEnv:
        return CodeEnv(tasks=ListedTasks([DOUBLE]), **options)

    def solve(self, env: ToolEnv) -> Script:
        return canonical_solution(env)


def call(env: CodeEnv, tool: str, **arguments: Any) -> str:
    plan = ["work"] if env.plan is None else None
    return env.step(env.codec.write_turn(plan=plan, calls=[Call(tool, arguments)]))[0]


@pytest.fixture
def env() -> CodeEnv:
    env = CodeEnv(tasks=ListedTasks([DOUBLE]))
    env.reset(seed=0)
    return env


def test_the_interpreter_keeps_its_state_within_an_episode_only(env: CodeEnv) -> None:
    assert "(no output)" in call(env, "python", code="x = 20")
    assert "21" in call(env, "python", code="x + 1")
    env.reset(seed=0)
    assert "NameError" in call(env, "python", code="x")
    env.close()


def test_files_are_shared_with_the_interpreter(env: CodeEnv) -> None:
    assert "wrote a/b.txt" in call(env, "write_file", path="a/b.txt", text="hello")
    assert "HELLO" in call(env, "python", code="open('a/b.txt').read().upper()")
    assert "hello" in call(env, "read_file", path="a/b.txt")
    assert "Error" in call(env, "read_file", path="../../etc/passwd")
    env.close()


def test_public_tests_can_be_run(env: CodeEnv) -> None:
    assert "all public tests pass" in call(env, "run_tests", solution="def f(x): return 2 * x")
    assert "a test failed" in call(env, "run_tests", solution="def f(x): return 3 * x")
    env.close()


def test_a_crash_restarts_the_interpreter(env: CodeEnv) -> None:
    assert "restarted" in call(env, "python", code="import os; os._exit(3)")
    assert "5" in call(env, "python", code="2 + 3")
    env.close()


def test_wrong_solutions_score_nothing(env: CodeEnv) -> None:
    turn = env.codec.write_turn(plan=["answer"], answer="```python\ndef f(x): return 2 * x + 0 * len('a')\n```")
    assert env.step(turn)[1] == 0.0  # 2 * 'a' + 0 raises


def test_a_fenced_answer_is_read(env: CodeEnv) -> None:
    turn = env.codec.write_turn(plan=["answer"], answer="```python\ndef f(x):\n    return x * 2\n```")
    assert env.step(turn)[1] == 1.0


async def test_numbers_are_compared_as_numbers() -> None:
    env = CodeEnv(tasks=ListedTasks([SUM]))
    for answer, reward in (("5.0", 1.0), ("$5", 1.0), ("6", 0.0), ("five", 0.0)):
        env.reset(seed=0)
        outcome = await env.step_async(env.codec.write_turn(plan=["answer"], answer=answer))
        assert outcome.reward == reward
    await env.close_async()


@pytest.mark.skipif(not HUMANEVAL.exists(), reason=f"needs {HUMANEVAL} (set FORETHOUGHT_DATA)")
async def test_humaneval_canonical_solutions_pass_and_broken_ones_fail() -> None:
    sandbox = make_sandbox("embedded")
    tasks = load_humaneval(HUMANEVAL)
    room = asyncio.Semaphore(4)

    async def passes(task: Task, solution: str) -> bool:
        data = task.metadata
        async with room:
            verdict = await check_solution(
                sandbox, solution=solution, tests=data["tests"], entry_point=data["entry_point"], setup=data["setup"]
            )
        return verdict.passed

    right = await asyncio.gather(*(passes(task, task.metadata["solution"]) for task in tasks))
    broken = await asyncio.gather(*(passes(task, task.metadata["setup"] + "    return None\n") for task in tasks))
    await sandbox.close()
    assert (len(right), sum(right), sum(broken)) == (164, 164, 0)


@pytest.mark.skipif(not GSM8K.exists(), reason=f"needs {GSM8K} (set FORETHOUGHT_DATA)")
async def test_gsm8k_by_code() -> None:
    spec = EnvSpec(id="forethought/Code-v0", kwargs={"gsm8k": str(GSM8K)})
    tasks = load_gsm8k(GSM8K).head(60)
    requests = [EpisodeRequest(task=task) for task in tasks]
    episodes = await collect_rollouts(requests, spec, ScriptedAgent(compute_gsm8k), concurrency=8)
    # Not every solution is annotated to its end; a reader of the annotations gets nearly all of them.
    assert sum(episode.reward for episode in episodes) >= 54
    assert await replay_episode(episodes[0]) == []


def test_a_bad_row_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"question": "?", "answer": "#### 1"}\n{"question": "?"}\n')
    with pytest.raises(TaskError, match=r"tasks\.jsonl, line 2: expected a text 'answer'"):
        load_gsm8k(file)
