"""The Docker backend against a real engine: `start_docker_engine.sh` brings one."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from forethought.sandboxes import Limits, RunStatus, Sandbox, SandboxUnavailable, SandboxUsageError, Session
from forethought.sandboxes.conformance import LIMITS as CONFORMANCE_LIMITS
from forethought.sandboxes.conformance import SandboxConformance
from forethought.sandboxes.docker_backend import DockerSandbox, remove_orphans
from forethought.sandboxes.docker_backend.engine import Engine
from forethought.sandboxes.docker_backend.owner import owner_labels

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

BASE = os.environ.get("FORETHOUGHT_DOCKER_BASE", "forethought-base:latest")
SHARED = Path(os.environ.get("FORETHOUGHT_SHARED", Path(__file__).parents[2].parent / "shared"))
HOSTILE = SHARED / "hostile" / "programs.json"
PROGRAMS = json.loads(HOSTILE.read_text()) if HOSTILE.exists() else {"prelude": "", "programs": []}
LIMITS = Limits(wall_seconds=30.0, memory_bytes=256 * 2**20, output_bytes=4096)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        engine = Engine()
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    try:
        engine.client.images.get(BASE)
    except engine.errors.DockerException:
        engine.close()
        pytest.skip(f"the engine has no image {BASE}: run tests/sandboxes/start_docker_engine.sh")
    yield engine
    engine.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(engine: Engine) -> AsyncIterator[DockerSandbox]:
    sandbox = DockerSandbox(LIMITS, base_image=BASE, spares=3)
    yield sandbox
    await sandbox.close()
    assert containers(engine, sandbox.run_id) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def conforming(engine: Engine) -> AsyncIterator[DockerSandbox]:
    sandbox = DockerSandbox(CONFORMANCE_LIMITS, base_image=BASE, spares=3)
    yield sandbox
    await sandbox.close()
    assert containers(engine, sandbox.run_id) == []


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, str]]:
    """Things on the host that no program may reach."""
    folder = Path("/tmp/forethought-canary") / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text("CANARY")
    shared_memory = Path("/dev/shm/sbx_canary")
    shared_memory.write_text("CANARY")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as unix:
        (folder / "sock").unlink(missing_ok=True)
        unix.bind(str(folder / "sock"))
        unix.listen()
        port = str(listener.getsockname()[1])
        yield {"{canary_file}": str(folder / "file"), "{canary_folder}": str(folder), "{port}": port}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    shared_memory.unlink(missing_ok=True)


def containers(engine: Engine, run_id: str) -> list[Any]:
    return list(engine.client.api.containers(all=True, filters={"label": f"forethought.run={run_id}"}))


def running(engine: Engine, run_id: str) -> list[Any]:
    return [container for container in containers(engine, run_id) if container["State"] == "running"]


@pytest.mark.parametrize("program", PROGRAMS["programs"], ids=lambda program: f"{program['id']}-{program['name'][:30]}")
async def test_hostile_programs_end_in_their_safe_outcome(
    sandbox: DockerSandbox, host: dict[str, str], program: dict[str, Any]
) -> None:
    code = f"PORT={{port}}\n{PROGRAMS['prelude']}{program['code']}"
    for name, value in host.items():
        code = code.replace(name, value)
    session = await sandbox.open()
    started = time.monotonic()
    result = await session.run_cell(code, timeout=program["limit_s"])
    assert time.monotonic() - started < program["limit_s"] + 1.5
    said = result.stdout + result.stderr
    for bad in ("ESCAPE", "WEAK", "NOLIMIT", "RAISED", "WROTE", "READ"):
        assert bad not in said.replace("BLOCKED", ""), said
    assert len(result.stdout) <= LIMITS.output_bytes
    for path in ("link", "fifo", "sparse"):
        if result.alive:
            with pytest.raises(SandboxUsageError):
                await session.get_file(path)
    if result.alive:
        assert len(await session.list_files()) <= 10_000
        again = await session.run_cell("1 + 1", timeout=5)
        assert again.status in (RunStatus.OK, RunStatus.KILLED, RunStatus.TIMEOUT)
    await session.reset()
    fresh = await session.run_cell("import os; (1 + 1, os.listdir('.'), os.listdir('/tmp'))")
    assert fresh.value == "(2, [], ['work'])"
    await session.close()


@pytest.mark.usefixtures("engine")
class TestConformance(SandboxConformance):
    @pytest.fixture
    def sandbox(self, conforming: DockerSandbox) -> Sandbox:
        return conforming

    @pytest_asyncio.fixture(loop_scope="module")
    async def session(self, sandbox: Sandbox) -> AsyncIterator[Session]:
        session = await sandbox.open()
        yield session
        await session.close()

    async def make(self, limits: Limits) -> Sandbox:
        return DockerSandbox(limits, base_image=BASE, spares=0)


async def test_status_is_what_the_host_saw(sandbox: DockerSandbox) -> None:
    session = await sandbox.open()
    cases = [
        ("import os; os._exit(0)", RunStatus.KILLED),
        ("import ctypes; ctypes.string_at(0)", RunStatus.KILLED),
        ("x = [bytearray(2**24) for _ in range(99)]", RunStatus.MEMORY),
        ("while True: print('x' * 2**16)", RunStatus.OUTPUT_LIMIT),
        ("import os\nfor i in range(3, 64):\n  try: os.write(i, bytes([255]) * 8)\n  except OSError: pass", "killed"),
    ]
    for code, status in cases:
        result = await session.run_cell(code)
        assert (result.status, result.alive) == (status, False), code
        assert (await session.run_cell("1")).status is RunStatus.KILLED
        with pytest.raises(SandboxUsageError, match="reset"):
            await session.list_files()
        await session.reset()
        assert (await session.run_cell("40 + 2")).value == "42"
    await session.close()


async def test_interrupted_cells_and_programs_keep_the_state(sandbox: DockerSandbox) -> None:
    session = await sandbox.open()
    await session.run_cell("kept = 'yes'")
    result = await session.run_cell("print('before')\nimport time; time.sleep(60)", timeout=0.2)
    assert (result.status, result.stdout, result.alive) == (RunStatus.TIMEOUT, "before\n", True)
    result = await session.run_program(["sh", "-c", "setsid sleep 77 & trap '' TERM INT; sleep 77"], timeout=0.2)
    assert (result.status, result.alive, result.exit_code) == (RunStatus.TIMEOUT, True, None)
    result = await session.run_program(["sh", "-c", "setsid sleep 77 >/dev/null & cat; exit 3"], stdin=b"in")
    assert (result.status, result.stdout, result.exit_code) == (RunStatus.ERROR, "in", 3)
    left = await session.run_cell(
        "import glob\nsum(b'sleep' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')), kept"
    )
    assert left.value == "(0, 'yes')"
    await session.close()


async def test_cpu_time_is_counted_over_the_tree(engine: Engine) -> None:
    sandbox = DockerSandbox(Limits(cpu_seconds=1.0), base_image=BASE, spares=0)
    session = await sandbox.open()
    result = await session.run_cell("import os\nos.fork()\nos.fork()\nwhile True: pass")
    assert (result.status, result.alive) == (RunStatus.TIMEOUT, False)
    assert result.wall_seconds < 5
    await sandbox.close()


async def test_bad_input_is_one_sentence(sandbox: DockerSandbox) -> None:
    session = await sandbox.open()
    for code in ("def", "'\ud800'.encode()", "\0", "x = '\ud800'; print(x)", "a" * (5 * 2**20)):
        assert (await session.run_cell(code)).alive
    for path in ("", "/etc/passwd", "../x", "a//b", "a/../b", "a\0b", "\ud800"):
        with pytest.raises(SandboxUsageError):
            await session.put_file(path, b"")
    with pytest.raises(SandboxUsageError, match="disk"):
        await session.put_file("big", bytes(LIMITS.disk_bytes + 1))
    await session.put_file("half", bytes(LIMITS.disk_bytes // 2))
    with pytest.raises(SandboxUsageError, match="no space"):
        await session.put_file("more", bytes(LIMITS.disk_bytes - 1))
    assert await session.list_files() == ["half"]
    await session.run_cell("import os; os.symlink('/tmp', 'out'); os.mkfifo('pipe')")
    for path in ("out/x", "out", "pipe"):
        with pytest.raises(SandboxUsageError):
            await session.put_file(path, b"x")
    with pytest.raises(SandboxUsageError):
        await session.run_cell("1", timeout=0)
    await session.close()
    with pytest.raises(SandboxUsageError, match="closed"):
        await session.run_cell("1")


async def test_a_cancelled_run_costs_its_container_only(sandbox: DockerSandbox) -> None:
    session = await sandbox.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await session.run_cell("import time; time.sleep(60)")
    assert not (await session.run_cell("1")).alive
    await session.reset()
    assert (await session.run_cell("1")).value == "1"
    await session.close()


async def test_a_container_removed_from_outside_is_noticed(sandbox: DockerSandbox, engine: Engine) -> None:
    session = await sandbox.open()
    for container in containers(engine, sandbox.run_id):
        await asyncio.to_thread(engine.remove, container["Id"])
    assert (await session.run_cell("1")).status is RunStatus.KILLED
    await session.close()
    session = await sandbox.open()  # the spares are gone too: a new one is made
    assert (await session.run_cell("1")).value == "1"
    await session.close()


async def test_nothing_outlives_a_killed_run_and_orphans_are_removed(engine: Engine, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import asyncio\n"
        "from forethought.sandboxes.docker_backend import DockerSandbox\n"
        "async def main():\n"
        f"    sandbox = DockerSandbox(base_image={BASE!r}, spares=1)\n"
        "    session = await sandbox.open()\n"
        "    print(sandbox.run_id, flush=True)\n"
        "    await session.run_cell('import os\\nos.fork()\\nimport time; time.sleep(60)', timeout=9)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        run_id = (await asyncio.to_thread(child.stdout.readline)).strip()
        assert containers(engine, run_id)
        # A container that was made and never attached to: closing no stream ends it, only the labels tell.
        labels = {**owner_labels(run_id, 3600), "forethought.pid": str(child.pid), "forethought.born": "1"}
        engine.client.api.create_container(BASE, command=["sleep", "9"], labels=labels)
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while running(engine, run_id) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert running(engine, run_id) == []
    await asyncio.to_thread(remove_orphans)
    # Another test's sandbox may have been faster, and removal takes a moment.
    while containers(engine, run_id) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert containers(engine, run_id) == []


async def test_unusable_options_are_refused(engine: Engine) -> None:
    with pytest.raises(SandboxUsageError):
        DockerSandbox(image="a", base_image="b")
    for options, words in (
        ({"image": BASE}, "not built by this version"),
        ({"image": "forethought-nothing:0"}, "no image"),
        ({"runtime": "nothing"}, "no runtime"),
        ({"docker_host": "unix:///nowhere/docker.sock"}, "no Docker engine answers"),
    ):
        with pytest.raises(SandboxUnavailable, match=words):
            await DockerSandbox(**options).start()  # type: ignore[arg-type]


async def test_multiprocessing_and_threads_work(sandbox: DockerSandbox) -> None:
    session = await sandbox.open()
    code = "import multiprocessing\nwith multiprocessing.Pool(2) as pool: got = pool.map(abs, [-1, -2])\ngot"
    assert (await session.run_cell(code)).value == "[1, 2]"
    await session.close()
