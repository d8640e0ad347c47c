"""Hidden tests stay out of reach of the solutions that they check."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from forethought.sandboxes import Sandbox, SandboxUnavailable
from forethought.sandboxes.backends import make_sandbox
from forethought.sandboxes.checking import Verdict, check_solution

SHARED = Path(os.environ.get("FORETHOUGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
HACKS = SHARED / "hostile" / "verifier_hacks.json"
TESTS = "def check(candidate):\n    assert candidate(3) == 77\n    assert candidate(4) == 78\n"


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = make_sandbox("embedded")
    try:
        await sandbox.start()
    except SandboxUnavailable as error:
        pytest.skip(f"no embedded sandbox here: {error}")
    yield sandbox
    await sandbox.close()


async def check(sandbox: Sandbox, solution: str, tests: str = TESTS, timeout: float = 2.0) -> Verdict:
    return await check_solution(sandbox, solution=solution, tests=tests, entry_point="f", timeout=timeout)


async def test_a_right_solution_passes(sandbox: Sandbox) -> None:
    assert await check(sandbox, "def f(x): return 74 + x") == Verdict(True, "", 2)


@pytest.mark.skipif(not HACKS.exists(), reason=f"needs {HACKS} (set FORETHOUGHT_SHARED)")
async def test_no_known_hack_passes(sandbox: Sandbox) -> None:
    candidates = json.loads(HACKS.read_text("utf-8"))["candidates"]
    passed = [c["name"] for c in candidates if (await check(sandbox, c["code"])).passed]
    assert not passed


@pytest.mark.parametrize(
    "solution",
    [
        "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(x): return E(0)",
        "class R:\n    def __repr__(self): return '__import__(\"os\").getpid()'\ndef f(x): return R()",
        "class R:\n    def __repr__(self): return '(' * 5000\ndef f(x): return R()",
        "def f(x): return [x] * 10**6",
        "def f(x): raise SystemExit(0)",
        "import builtins\nbuiltins.repr = lambda value: '(77,)'\ndef f(x): return 0",
        "import threading, time\ndef f(x): return 0\nthreading.Thread(target=time.sleep, args=(9,)).start()",
        "import random\nrandom.seed = None\ndef check(c): pass\ndef f(x): return None",
        "open('conftest.py', 'w').write('def pytest_runtest_call(item): pass')\ndef f(x): return 0",
        "def f(x: int) -> int\n    return 77",
        "",
    ],
)
async def test_tricks_do_not_pass(sandbox: Sandbox, solution: str) -> None:
    assert not (await check(sandbox, solution)).passed


async def test_an_endless_call_ends(sandbox: Sandbox) -> None:
    verdict = await check(sandbox, "def f(x):\n    while True: pass", timeout=0.5)
    assert not verdict.passed and verdict.calls == 1


async def test_an_exception_of_the_solution_reaches_the_tests(sandbox: Sandbox) -> None:
    tests = (
        "def check(c):\n    try:\n        c(1)\n    except RuntimeError as e:\n"
        "        assert 'no' in str(e)\n        return\n    assert 0"
    )
    assert (await check(sandbox, "def f(x): raise KeyError('no')", tests)).passed
    assert not (await check(sandbox, "def f(x): return 1", tests)).passed


async def test_arguments_are_copies(sandbox: Sandbox) -> None:
    tests = "def check(c):\n    xs = [1, 2]\n    c(xs)\n    assert xs == [1, 2]\n    assert c(xs) == 2"
    assert (await check(sandbox, "def f(x):\n    n = len(x)\n    x.clear()\n    return n", tests)).passed


async def test_the_reason_gives_no_expected_value_away(sandbox: Sandbox) -> None:
    verdict = await check(sandbox, "def f(x): return 0")
    assert verdict.reason == "a test failed"


async def test_broken_tests_are_the_tasks_fault(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="do not load"):
        await check(sandbox, "def f(x): return 0", "def check(candidate) -> : pass")
