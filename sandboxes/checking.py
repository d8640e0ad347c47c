"""Checking a solution against hidden tests that the solution cannot reach.

Two fresh sessions: the candidate's holds the solution and nothing else; the tests' session holds the tests. When the
tests call the candidate, the arguments go over, one call at a time, and only a plain literal of capped size comes back;
expected values never enter the candidate's session, and the comparison runs where the candidate is not. The tests run
again from the beginning after every call, with the results so far played back, so they need no channel to anything.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from .sandbox import RunResult, RunStatus, Sandbox, Session

_DRIVER = '''
import ast as _ast, random as _random

class _Pending(BaseException):
    """Raised in place of a result that is not known yet."""

_results = []

def _candidate(*arguments, **named):
    number = _candidate.calls
    _candidate.calls += 1
    if number == len(_results):
        raise _Pending(repr((arguments, named)))
    kind, text = _results[number]
    if kind == "raised":
        raise RuntimeError(text)
    return _ast.literal_eval(text)

def _round(*result):
    if result:
        _results.append(result)
    _candidate.calls = 0
    _random.seed(0)
    try:
        check(_candidate)
    except _Pending as pending:
        return ("call", pending.args[0])
    except BaseException as error:
        return ("failed", f"{type(error).__name__}: {error}"[:500])
    return ("passed", "")
'''
_MAX_LITERAL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a solution."""

    passed: bool
    reason: str
    """Empty when it passed; else one line for people and policies that gives no expected value away."""
    calls: int
    """Calls of the candidate that were made."""


async def check_solution(
    sandbox: Sandbox,
    *,
    solution: str,
    tests: str,
    entry_point: str,
    setup: str = "",
    timeout: float = 10.0,
    max_calls: int = 2000,
) -> Verdict:
    """Run hidden tests against a solution.

    Args:
        sandbox: Opens the two sessions, which are closed afterwards.
        solution: Source that defines `entry_point`; never trusted.
        tests: Source that defines `check(candidate)`, which raises when the candidate is wrong. It must call the
            candidate with plain values, and be deterministic (`random` is seeded).
        entry_point: Name of the function under test.
        setup: Source that the tests need besides, such as helpers that the task's statement defines.
        timeout: Seconds of each call, and of loading the solution.
        max_calls: Calls after which the tests are given up as endless.

    Raises:
        SandboxUnavailable: a sandbox failed; the solution is neither right nor wrong.
        ValueError: the tests do not run, whatever the solution; the task is broken.
    """
    judge = await sandbox.open()
    try:
        # Tests that call the function by its name mean the candidate, not the stub that the setup may define.
        source = f"{setup}\n{tests}\n{_DRIVER}\n{entry_point} = _candidate\n"
        prepared = await judge.run_cell(source, timeout=timeout)
        if prepared.status is not RunStatus.OK:
            raise ValueError(f"the tests of {entry_point!r} do not load: {_last_line(prepared)}")
        candidate = await sandbox.open()
        try:
            return await _play(judge, candidate, solution, entry_point, timeout, max_calls)
        finally:
            await candidate.close()
    finally:
        await judge.close()


async def _play(
    judge: Session, candidate: Session, solution: str, entry_point: str, timeout: float, max_calls: int
) -> Verdict:
    loaded = await candidate.run_cell(solution, timeout=timeout)
    if loaded.status is not RunStatus.OK or not loaded.alive:
        return Verdict(False, f"the solution does not load: {_last_line(loaded)}", 0)
    message = ""
    for calls in range(max_calls):
        kind, text = _outcome(await judge.run_cell(f"_round({message})", timeout=timeout))
        if kind == "passed":
            return Verdict(True, "", calls)
        if kind == "failed":
            return Verdict(False, "a test failed", calls)
        arguments, named = _literal(text)
        call = f"({entry_point}(*{arguments!r}, **{named!r}),)"
        result = await candidate.run_cell(call, timeout=timeout)
        if not result.alive or result.status not in (RunStatus.OK, RunStatus.ERROR):
            return Verdict(False, f"a call ended with {result.status}", calls + 1)
        if result.status is RunStatus.ERROR:
            message = f"'raised', {_last_line(result)!r}"
            continue
        try:
            (value,) = _literal("" if result.truncated else result.value or "")
        except ValueError:
            return Verdict(False, "a call returned something that is not a plain value, or too much of it", calls + 1)
        message = f"'returned', {repr(value)!r}"
    return Verdict(False, f"the tests called the solution more than {max_calls} times", max_calls)


def _outcome(result: RunResult) -> tuple[str, str]:
    """What a round of the tests said."""
    if result.status is not RunStatus.OK or result.value is None:
        raise ValueError(f"the tests do not run: {_last_line(result)}")
    kind, text = _literal(result.value)
    return kind, text


def _literal(text: str) -> tuple[Any, ...]:
    """A tuple of plain values.

    Raises:
        ValueError: the text is anything else.
    """
    if len(text) > _MAX_LITERAL:
        raise ValueError("too long")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("not a plain value") from None
    if not isinstance(value, tuple):
        raise ValueError("not a tuple")
    return value


def _last_line(result: RunResult) -> str:
    lines = (result.error or "").strip().splitlines()
    return lines[-1][:300] if lines else str(result.status)
