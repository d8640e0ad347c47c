"""The Code environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...sandboxes import RunResult, RunStatus, Sandbox, SandboxUsageError, Session
from ...sandboxes.backends import make_sandbox
from ...sandboxes.checking import Verdict, check_solution
from .. import background_loop
from ..budgets import Budget
from ..tasks import Task, TaskSet, as_task_set
from ..tool_env import ToolEnv
from ..tools import ToolError, tool
from .questions import load_gsm8k, load_humaneval

_TIMEOUT = 60.0


class CodeEnv(ToolEnv):
    """Solve a task with a Python interpreter, files and tests in a sandbox.

    A task with `tests` in its metadata is answered with source code: hidden tests decide, in sessions of their own that
    neither the solution nor the episode's session can reach (`forethought.sandboxes.checking`). Any other task is
    answered with a number or a text that is compared with the task's answer. The score is `correct`.

    Args:
        humaneval: A HumanEval file.
        gsm8k: A GSM8K file.
        tasks: A task set. Metadata of a task with tests: `tests` (source of `check(candidate)`), `entry_point`, and
            optionally `setup` (source that the tests need besides) and `public_tests` (tests that the policy may run).
        sandbox: Name of the backend, `embedded` or `docker`, or a `Sandbox`. A backend named is shared by all
            environments of the process.
        budget: 16 turns and 32 tool calls by default.
        options: Everything else that `ToolEnv` takes.

    Raises:
        ValueError: not exactly one of `humaneval`, `gsm8k` and `tasks` is given.
    """

    def __init__(
        self,
        *,
        humaneval: str | Path | None = None,
        gsm8k: str | Path | None = None,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        sandbox: str | Sandbox = "embedded",
        budget: Budget | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        sources: list[Callable[[], TaskSet]] = []
        if humaneval is not None:
            sources.append(lambda: load_humaneval(humaneval))
        if gsm8k is not None:
            sources.append(lambda: load_gsm8k(gsm8k))
        if tasks is not None:
            sources.append(lambda: as_task_set(tasks))
        if len(sources) != 1:
            raise ValueError("Code needs exactly one of humaneval=<file>, gsm8k=<file> and tasks=<task set>")
        self._sandbox = _shared_sandbox(sandbox) if isinstance(sandbox, str) else sandbox
        self._session: Session | None = None
        self._used = self._stale = False
        self._verdict: Verdict | None = None
        super().__init__(sources[0](), budget=budget or Budget(turns=16, tool_calls=32), **options)

    def begin(self) -> None:
        """Nothing has run yet; a session that another episode used is made pristine before it is used again."""
        self._verdict = None
        self._stale = self._used

    @tool(timeout=_TIMEOUT)
    async def python(self, code: str) -> str:
        """Run Python in an interpreter that keeps its state, and read what it prints and the last expression's value.

        Args:
            code: The source.
        """
        session = await self._open()
        result = await session.run_cell(code)
        self._stale = not result.alive
        return _shown(result)

    @tool(timeout=_TIMEOUT)
    async def write_file(self, path: str, text: str) -> str:
        """Write a text file in the work folder.

        Args:
            path: Relative to the work folder.
            text: Its new content.
        """
        session = await self._open()
        try:
            await session.put_file(path, text.encode("utf-8", "replace"))
        except SandboxUsageError as error:
            raise ToolError(str(error)) from None
        return f"wrote {path}"

    @tool(timeout=_TIMEOUT)
    async def read_file(self, path: str) -> str:
        """Read a text file of the work folder.

        Args:
            path: Relative to the work folder.
        """
        session = await self._open()
        try:
            return (await session.get_file(path)).decode("utf-8", "replace")
        except SandboxUsageError as error:
            raise ToolError(str(error)) from None

    @tool(timeout=_TIMEOUT)
    async def run_tests(self, solution: str) -> str:
        """Run the public tests of the task, where it has some, against a solution.

        Args:
            solution: The whole source.
        """
        public = self.task.metadata.get("public_tests")
        if public is None:
            raise ToolError("this task has no public tests; try the solution with the tool python")
        verdict = await self._check(solution, public)
        return "all public tests pass" if verdict.passed else verdict.reason

    async def judge(self, answer: str) -> None:
        """Run the hidden tests, where the task has some."""
        if "tests" in self.task.metadata:
            self._verdict = await self._check(_source(answer), self.task.metadata["tests"])

    def score(self, answer: str | None) -> dict[str, float]:
        """`correct`: the hidden tests pass, or the answer is the expected number or text."""
        if answer is None:
            return {"correct": 0.0}
        if "tests" in self.task.metadata:
            return {"correct": float(self._verdict is not None and self._verdict.passed)}
        return {"correct": float(_same(answer, self.task.answer or ""))}

    def close(self) -> None:
        """Destroy the episode's session."""
        if self._session is not None:
            background_loop.run(self.close_async())

    async def close_async(self) -> None:
        """Destroy the episode's session."""
        session, self._session, self._used = self._session, None, False
        if session is not None:
            await session.close()

    async def _open(self) -> Session:
        if self._session is None:
            self._session = await self._sandbox.open()
        elif self._stale:
            await self._session.reset()
        self._stale, self._used = False, True
        return self._session

    async def _check(self, solution: str, tests: str) -> Verdict:
        task = self.task.metadata
        return await check_solution(
            self._sandbox,
            solution=solution,
            tests=tests,
            entry_point=task["entry_point"],
            setup=task.get("setup", ""),
        )


@functools.cache
def _shared_sandbox(name: str) -> Sandbox:
    return make_sandbox(name)


def _shown(result: RunResult) -> str:
    """A run as the policy reads it."""
    parts = [result.stdout.rstrip("\n"), result.stderr.rstrip("\n"), result.value or "", result.error or ""]
    text = "\n".join(part for part in parts if part)
    if result.status not in (RunStatus.OK, RunStatus.ERROR):
        text += f"\n[ended: {result.status}{'' if result.alive else '; the interpreter was restarted'}]"
    return text.strip("\n") or "(no output)"


def _source(answer: str) -> str:
    """The answer without the code fence that chat models put around source."""
    lines = answer.strip().splitlines()
    if len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```":
        lines = lines[1:-1]
    return "\n".join(lines)


def _same(answer: str, expected: str) -> bool:
    """Whether two answers are the same number, or else the same text."""
    try:
        return float(answer.replace(",", "").removeprefix("$")) == float(expected)
    except ValueError:
        return answer.strip() == expected.strip()
