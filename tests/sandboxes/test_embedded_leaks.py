"""Nothing is left behind: not by sessions killed at any point, not by a host that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from forethought.sandboxes import EmbeddedSandbox, Limits, RunStatus, SandboxUnavailable, SandboxUsageError

from .conftest import Tier, started

SESSIONS = 200
SPARES = 4
PATIENCE = 60
"""Seconds within which an overloaded machine gets something done."""
MARK = "forethought-"
CELLS = [
    "1 + 1",
    "import time; time.sleep(10)",
    "import os\nfor _ in range(5):\n    if os.fork() == 0:\n        import time; time.sleep(100)",
    "import os; os._exit(3)",
    "open('f', 'w').write('x' * 100000); import os; os.makedirs('a/b/c')",
    "import subprocess; subprocess.Popen(['sleep', '100'])",
]


def descendants(process: int) -> set[int]:
    found: set[int] = set()
    waiting = [process]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                children = Path(f"/proc/{one}/task/{task}/children").read_text().split()
                waiting += map(int, children)
                found |= set(map(int, children))
    return found


def groups_of(process: int) -> list[str]:
    # Groups come and go meanwhile: os.walk passes over what is gone.
    walk = os.walk("/sys/fs/cgroup")
    return [name for _, names, _ in walk for name in names if name.startswith(f"{MARK}{process}-")]


def folders(process: int | None = None) -> set[str]:
    mine = f"{MARK}{process or os.getpid()}-"
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(mine)}


async def use(sandbox: EmbeddedSandbox, generator: random.Random, gate: asyncio.Semaphore) -> None:
    async with gate:
        task = asyncio.ensure_future(live(sandbox, generator))
        if generator.random() < 0.4:
            await asyncio.sleep(generator.random() * 0.05)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def live(sandbox: EmbeddedSandbox, generator: random.Random) -> None:
    session = await sandbox.open()
    try:
        with contextlib.suppress(SandboxUsageError):
            await session.run_cell(generator.choice(CELLS), timeout=generator.random() * 0.1)
            if generator.random() < 0.2:
                await session.run_program(["sh", "-c", "sleep 100 & sleep 0.01"], timeout=0.05)
            if generator.random() < 0.2:
                await session.reset()
    finally:
        await session.close()


async def at_rest(sandbox: EmbeddedSandbox) -> tuple[int, int]:
    """Descriptors and processes of this process once all spares are there."""
    await (await sandbox.open()).close()
    async with asyncio.timeout(PATIENCE):
        while len(sandbox._spares) < SPARES or not all(spare.ready and spare.handle for spare in sandbox._spares):
            await asyncio.sleep(0.01)
            for spare in sandbox._spares:
                spare.pump()
    return len(os.listdir("/proc/self/fd")), sum(not is_zombie(process) for process in descendants(os.getpid()))


@pytest.mark.parametrize("tier", ["namespaces", "no-namespaces"])
async def test_sessions_killed_at_random_points_leave_nothing(tier: Tier) -> None:
    kept_folders, kept_groups = folders(), groups_of(os.getpid())  # other tests' sandboxes may live in this process
    sandbox = await started(tier, Limits(wall_seconds=PATIENCE), spares=SPARES)
    generator, gate = random.Random(7), asyncio.Semaphore(8)
    await asyncio.gather(*(use(sandbox, generator, gate) for _ in range(20)))
    descriptors, processes = await at_rest(sandbox)
    await asyncio.gather(*(use(sandbox, generator, gate) for _ in range(SESSIONS)))
    session = await sandbox.open()
    assert (await session.run_cell("1 + 1")).value == "2"
    await session.close()
    until = time.monotonic() + PATIENCE
    left = await at_rest(sandbox)
    while (left[0] > descriptors or left[1] > processes) and time.monotonic() < until:
        await asyncio.sleep(0.05)  # What was killed ends when the machine finds the time.
        left = await at_rest(sandbox)
    assert left[0] <= descriptors and left[1] <= processes
    mounts = Path("/proc/self/mountinfo").read_text()
    await sandbox.close()
    assert Path("/proc/self/mountinfo").read_text().count("tmpfs") <= mounts.count("tmpfs")
    assert groups_of(os.getpid()) == kept_groups
    assert folders() == kept_folders


def is_zombie(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


HOST = """
import asyncio, os, sys
from forethought.sandboxes import EmbeddedSandbox
async def main():
    sandbox = EmbeddedSandbox(require=sys.argv[1], python=sys.argv[2] or None, spares=3)
    await sandbox.start()
    sessions = [await sandbox.open() for _ in range(4)]
    code = "import os, time, signal\\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\\n"
    code += "if os.fork() == 0:\\n    try: os.setsid()\\n    except OSError: pass\\n    time.sleep(1000)"
    for session in sessions:
        assert (await session.run_cell(code)).status == "ok"
    asyncio.ensure_future(sessions[0].run_cell("import time; time.sleep(1000)"))
    await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("tier", ["namespaces", "no-namespaces"])
async def test_a_killed_host_leaves_nothing(tier: Tier) -> None:
    probe = await started(tier, spares=0)
    await probe.close()
    own = tier == "namespaces" or os.getuid() != 0 or not sys.base_prefix.startswith("/root")
    host = subprocess.Popen([sys.executable, "-c", HOST, tier, "" if own else "/usr"], stdout=subprocess.PIPE)
    assert host.stdout is not None and host.stdout.readline() == b"ready\n"
    started_by_host = descendants(host.pid)
    assert len(started_by_host) >= 8
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    until = time.monotonic() + PATIENCE
    left = True
    while left and time.monotonic() < until:
        await asyncio.sleep(0.02)
        alive = any(not is_zombie(process) for process in started_by_host)
        left = alive or bool(groups_of(host.pid)) or bool(folders(host.pid))
    assert not left


async def test_a_template_that_dies_is_replaced() -> None:
    sandbox = await started("namespaces", spares=2)
    await sandbox.open()
    assert sandbox._template is not None
    for process in descendants(sandbox._template.process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    await asyncio.sleep(0.1)
    session = await sandbox.open()
    assert (await session.run_cell("2")).value == "2"
    await sandbox.close()


@pytest.mark.parametrize("template_dies", [False, True])
@pytest.mark.parametrize("tier", ["namespaces", "no-namespaces"])
async def test_a_session_whose_init_is_killed_leaves_no_process(tier: Tier, template_dies: bool) -> None:
    sandbox = await started(tier, spares=0)
    session = await sandbox.open()
    await session.run_cell("import os\nif os.fork() == 0:\n    while True: pass")
    init = session._machine.process
    tree = {init} | descendants(init)
    assert len(tree) == 3 and sandbox._template is not None
    if template_dies:
        sandbox._template.process.kill()
        for process in descendants(sandbox._template.process.pid) - tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)
    if template_dies:
        await session.close()
    until = time.monotonic() + PATIENCE
    while not all(is_zombie(process) for process in tree) and time.monotonic() < until:
        await asyncio.sleep(0.01)
    assert all(is_zombie(process) for process in tree)
    await session.close()
    await sandbox.close()


async def test_a_spare_that_was_killed_is_not_handed_out() -> None:
    sandbox = await started("namespaces", spares=3)
    assert (await (await sandbox.open()).run_cell("1")).value == "1"
    await asyncio.sleep(0.3)
    for process in descendants(os.getpid()):
        if not descendants(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)  # The interpreters: nothing is below them.
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert (await (await sandbox.open()).run_cell("2")).value == "2"
    await sandbox.close()


async def test_templates_that_die_leave_no_control_groups() -> None:
    kept_groups = groups_of(os.getpid())
    sandbox = await started("namespaces", spares=2)
    sessions = []
    for _ in range(3):
        sessions.append(await sandbox.open())
        assert sandbox._template is not None
        sandbox._template.process.kill()
        await asyncio.sleep(0.1)
    assert (await (await sandbox.open()).run_cell("2")).value == "2"
    await sandbox.close()
    assert groups_of(os.getpid()) == kept_groups


async def test_a_session_that_dies_with_its_template_is_not_the_codes_doing() -> None:
    sandbox = await started("namespaces", spares=1)
    idle, busy = await sandbox.open(), await sandbox.open()
    running = asyncio.ensure_future(busy.run_cell("import time; time.sleep(5)"))
    await asyncio.sleep(0.2)
    assert sandbox._template is not None
    sandbox._template.process.kill()
    with pytest.raises(SandboxUnavailable, match="template"):
        await asyncio.wait_for(running, 4)
    with pytest.raises(SandboxUnavailable, match="template"):
        await idle.run_cell("1")
    for session in (idle, busy):
        assert (await session.run_cell("1")).status is RunStatus.KILLED
        await session.reset()
        assert (await session.run_cell("1")).value == "1"
        assert (await session.run_cell("import os; os._exit(0)")).status is RunStatus.KILLED
    await sandbox.close()


async def test_a_run_whose_machine_is_taken_away_ends() -> None:
    """As when a session is closed in the moment in which its run is out of time."""
    sandbox = await started("namespaces", spares=1)
    session = await sandbox.open()
    running = asyncio.ensure_future(session.run_cell("import time; time.sleep(30)"))
    await asyncio.sleep(0.1)
    await session._machine.wait(lambda: session._machine.handle is not None, 1)
    session._machine.kill()
    while not session._machine.finished():
        time.sleep(0.001)  # The loop is not asked: the run has not seen yet that it ended.
    session._machine.release()
    result = await asyncio.wait_for(running, 5)
    assert result.status is RunStatus.KILLED and not result.alive
    await session.close()
    assert (await (await sandbox.open()).run_cell("2")).value == "2"
    await sandbox.close()


async def test_two_hundred_sessions_at_once() -> None:
    sandbox = await started("namespaces", Limits(memory_bytes=64 * 2**20), spares=8)
    sessions = await asyncio.gather(*(sandbox.open() for _ in range(200)))
    for turn in range(3):
        results = await asyncio.gather(
            *(session.run_cell(f"x = {turn} * {index}; x") for index, session in enumerate(sessions))
        )
        assert [result.value for result in results] == [str(turn * index) for index in range(200)]
    assert all(result.status is RunStatus.OK for result in results)
    await asyncio.gather(*(session.close() for session in sessions))
    await sandbox.close()


def test_the_sandbox_works_from_one_loop_after_another() -> None:
    sandbox = EmbeddedSandbox(spares=1)

    async def once() -> str | None:
        session = await sandbox.open()
        value = (await session.run_cell("3")).value
        await session.close()
        return value

    try:
        assert [asyncio.run(once()) for _ in range(3)] == ["3", "3", "3"]
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    finally:
        asyncio.run(sandbox.close())


async def test_an_environment_that_is_not_there_is_said() -> None:
    with pytest.raises(SandboxUnavailable, match="/nowhere"):
        await EmbeddedSandbox(python="/nowhere").start()


async def test_a_module_that_cannot_be_preloaded_is_said() -> None:
    kept_groups = groups_of(os.getpid())
    with pytest.raises(SandboxUnavailable, match="no_such_module"):
        await EmbeddedSandbox(preload=["no_such_module"]).start()
    assert groups_of(os.getpid()) == kept_groups


async def test_other_platforms_are_told_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="Docker"):
        await EmbeddedSandbox().start()
