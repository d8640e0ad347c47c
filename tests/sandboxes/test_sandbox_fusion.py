"""The client of SandboxFusion, against a server that speaks its protocol."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("aiohttp", reason="the client of SandboxFusion needs the extra `remote`")

from aiohttp import web

from forethought.sandboxes import Limits, RunStatus, SandboxUnavailable, SandboxUsageError
from forethought.sandboxes.backends import make_sandbox
from forethought.sandboxes.remote import SandboxFusionSandbox

from .conftest import started
from .other_services import FusionService, serving

LIMITS = Limits(wall_seconds=5.0, disk_bytes=1 << 20, inodes=20, output_bytes=4096, value_bytes=1024)


@pytest.fixture
async def service() -> AsyncIterator[FusionService]:
    embedded = await started("namespaces", Limits(output_bytes=1 << 20))
    yield FusionService(embedded)
    await embedded.close()


@pytest.fixture
async def sandbox(service: FusionService) -> AsyncIterator[SandboxFusionSandbox]:
    async with serving(service.application()) as url:
        sandbox = SandboxFusionSandbox(url, limits=LIMITS, patience=0.3)
        yield sandbox
        await sandbox.close()


async def test_a_cell_has_output_value_and_error(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert (result.status, result.stdout, result.stderr, result.value) == (RunStatus.OK, "out\n", "err\n", "42")
    assert result.error is None and result.alive and 0 < result.wall_seconds < 5 and result.peak_memory_bytes > 1 << 20
    await session.reset()
    result = await session.run_cell("def f():\n    return 1 / 0\nf()")
    assert result.status is RunStatus.ERROR and "ZeroDivisionError" in (result.error or "") and result.alive


@pytest.mark.parametrize(
    ("code", "error"),
    [("def f(:", "SyntaxError"), ("'\ud800' + 1", "Error"), ("\0", "null"), ("exit(3)", "SystemExit")],
)
async def test_what_the_code_does_is_a_result(sandbox: SandboxFusionSandbox, code: str, error: str) -> None:
    result = await (await sandbox.open()).run_cell(code)
    assert result.status is RunStatus.ERROR and error in (result.error or "") and result.alive


async def test_a_second_cell_is_refused_and_says_what_to_do(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    await session.run_cell("x = 1")
    with pytest.raises(SandboxUsageError, match="keeps no interpreter between two cells"):
        await session.run_cell("x")
    await session.reset()
    assert "NameError" in ((await session.run_cell("x")).error or "")


async def test_files_go_in_stay_and_come_out(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    data = bytes(range(256)) * 100
    await session.put_file("deep/data.bin", data)
    code = "import os\nopen('deep/data.bin', 'ab').write(b'!')\nos.symlink('/etc/passwd', 'link')\nos.mkfifo('pipe')"
    assert (await session.run_cell(code + "\nopen('own.txt', 'w').write('y')")).value == "1"
    assert await session.list_files() == ["deep/data.bin", "own.txt"]
    assert await session.get_file("deep/data.bin") == data + b"!"
    result = await session.run_program(["sh", "-c", "cat own.txt; rm own.txt; ls"])
    assert result.stdout.split() == ["ydeep", "tmp_main.py"]
    assert await session.list_files() == ["deep/data.bin"]
    for path in ("own.txt", "link", "../x", "/etc/passwd", "", "deep", "a\0b"):
        with pytest.raises(SandboxUsageError):
            await session.get_file(path)
    with pytest.raises(SandboxUsageError, match="25601"):
        await session.get_file("deep/data.bin", max_bytes=10)
    with pytest.raises(SandboxUsageError, match="disk limit"):
        await session.put_file("large", b"x" * (1 << 20))
    with pytest.raises(SandboxUsageError, match="folder"):
        await session.put_file("deep", b"x")


async def test_programs(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    code = "import sys; print(len(sys.stdin.buffer.read())); print('bad', file=sys.stderr); sys.exit(3)"
    result = await session.run_program(["python3", "-c", code], stdin=os.urandom(100_000))
    assert (result.status, result.stdout, result.stderr) == (RunStatus.ERROR, "100000\n", "bad\n")
    assert result.exit_code == 3 and result.value is None
    result = await session.run_program(["env"], environment={"MINE": "yes"})
    assert result.status is RunStatus.OK and "MINE=yes" in result.stdout and "PATH=" in result.stdout
    result = await session.run_program(["no-such-program"])
    assert result.status is RunStatus.ERROR and result.exit_code == 127
    result = await session.run_program(["sh", "-c", "kill -9 $$"])
    assert result.status is RunStatus.KILLED and result.exit_code is None and result.alive
    for arguments in ([], [""], ["echo", "a\0b"]):
        with pytest.raises(SandboxUsageError):
            await session.run_program(arguments)


async def test_limits(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_program(["sh", "-c", "echo begun; sleep 60"], timeout=0.3)
    assert result.status is RunStatus.TIMEOUT and result.exit_code is None and result.stdout == "begun\n"
    result = await session.run_cell("print('HEAD' + 'x' * 100_000 + 'TAIL'); 'y' * 5000")
    assert result.truncated and result.stdout.startswith("HEAD") and result.stdout.endswith("TAIL\n")
    assert len(result.stdout) < LIMITS.output_bytes + 200 and len(result.value or "") < LIMITS.value_bytes + 200
    await session.reset()
    result = await session.run_cell("open('f', 'wb').write(bytes(2 << 20))")
    assert result.status is RunStatus.KILLED and not result.alive and "work folder" in (result.error or "")
    assert (await session.run_program(["true"])).status is RunStatus.KILLED
    with pytest.raises(SandboxUsageError, match="ended"):
        await session.list_files()
    await session.reset()
    assert (await session.run_program(["true"])).status is RunStatus.OK


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import os; open('.forethought-result.json', 'w').write('[' * 9999); os._exit(0)",
        "import os; open('.forethought-result.json', 'w').write('{\"files\": {\"../x\": \"\"}}'); os._exit(0)",
    ],
)
async def test_an_interpreter_that_dies_is_killed(sandbox: SandboxFusionSandbox, code: str) -> None:
    result = await (await sandbox.open()).run_cell(f"print('before', flush=True)\n{code}")
    assert result.status is RunStatus.KILLED and not result.alive and result.stdout == "before\n"


async def test_what_the_service_is_asked(sandbox: SandboxFusionSandbox, service: FusionService) -> None:
    await (await sandbox.open()).run_cell("1", timeout=2)
    asked = service.requests[-1]
    assert 2 <= asked["run_timeout"] < 5 and asked["memory_limit_MB"] == LIMITS.memory_bytes >> 20


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500, text="Internal Server Error"),
        web.Response(text="<html>"),
        web.Response(text="[]"),
        web.json_response({"status": "SandboxError", "message": "no space", "run_result": None}),
        web.json_response({"status": "Success", "message": "", "run_result": None}),
    ],
    ids=["500", "html", "list", "error", "nothing"],
)
async def test_what_the_service_does_wrong_is_an_infrastructure_fault(
    sandbox: SandboxFusionSandbox, service: FusionService, answer: web.Response
) -> None:
    session = await sandbox.open()
    before = len(service.requests)

    async def give() -> web.StreamResponse:
        return answer

    service.answer = give
    with pytest.raises(SandboxUnavailable):
        await session.run_cell("1")
    assert len(service.requests) == before + 1  # What was taken is not sent again.


async def test_a_service_that_is_full_is_asked_again(sandbox: SandboxFusionSandbox, service: FusionService) -> None:
    session = await sandbox.open()

    async def full() -> web.StreamResponse:
        service.answer = None
        return web.Response(status=429)

    service.answer = full
    assert (await session.run_cell("1")).value == "1"


async def test_no_service_at_all() -> None:
    sandbox = make_sandbox("sandbox-fusion", url="http://127.0.0.1:9", patience=0.1)
    with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:9"):
        await sandbox.open()
    await sandbox.close()
    with pytest.raises(SandboxUsageError, match="URL"):
        make_sandbox("sandbox-fusion", url="host")
    with pytest.raises(SandboxUsageError, match="url"):
        make_sandbox("sandbox-fusion")


async def test_closed_is_closed(sandbox: SandboxFusionSandbox) -> None:
    session = await sandbox.open()
    await session.close()
    await session.close()
    for use in (session.run_cell("1"), session.run_program(["true"]), session.put_file("a", b""), session.reset()):
        with pytest.raises(SandboxUsageError, match="closed"):
            await use


async def test_sessions_are_apart(sandbox: SandboxFusionSandbox) -> None:
    sessions = [await sandbox.open() for _ in range(4)]
    await asyncio.gather(*(session.run_cell(f"open('f', 'w').write('{i}')") for i, session in enumerate(sessions)))
    assert [await session.get_file("f") for session in sessions] == [b"0", b"1", b"2", b"3"]
    assert "one cell" in sandbox.describe()["interpreter"]
