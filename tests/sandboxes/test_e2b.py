"""The client of E2B, with E2B's own SDK, against a server that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("aiohttp", reason="the local server needs the extra `remote`")
pytest.importorskip("e2b_code_interpreter", reason="the client of E2B needs the extra `e2b`")

from forethought.sandboxes import Limits, RunStatus, SandboxUnavailable, SandboxUsageError
from forethought.sandboxes.backends import make_sandbox
from forethought.sandboxes.remote import E2BSandbox

from .conftest import started
from .other_services import KEY, E2BService, serving

LIMITS = Limits(wall_seconds=5.0, disk_bytes=1 << 20, output_bytes=4096, value_bytes=1024)


@pytest.fixture
async def service() -> AsyncIterator[E2BService]:
    embedded = await started("namespaces", Limits(wall_seconds=30.0, output_bytes=1 << 20))
    yield E2BService(embedded)
    await embedded.close()


@pytest.fixture
async def url(service: E2BService) -> AsyncIterator[str]:
    async with serving(service.application()) as url:
        yield url


@pytest.fixture
async def sandbox(url: str) -> AsyncIterator[E2BSandbox]:
    sandbox = E2BSandbox(LIMITS, api_key=KEY, api_url=url, sandbox_url=url, http_version="1.1")
    yield sandbox
    await sandbox.close()


async def test_cells_have_output_value_and_error_and_names_live_on(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("import sys\nprint('out')\nprint('err', file=sys.stderr)\nx = 6\nx * 7")
    assert (result.status, result.stdout, result.stderr, result.value) == (RunStatus.OK, "out\n", "err\n", "42")
    assert result.error is None and result.alive and 0 < result.wall_seconds < 5
    assert (await session.run_cell("x += 1")).value is None
    assert (await session.run_cell("x")).value == "7"
    result = await session.run_cell("1 / 0")
    assert result.status is RunStatus.ERROR and "ZeroDivisionError" in (result.error or "") and result.alive
    result = await session.run_cell("'\ud800'")
    assert result.status is RunStatus.ERROR and result.alive


async def test_machines_are_made_shut_off_and_killed(sandbox: E2BSandbox, service: E2BService) -> None:
    session = await sandbox.open()
    assert len(service.machines) == 1
    assert service.created[0]["allow_internet_access"] is False and service.created[0]["timeout"] == 3600
    first = set(service.machines)
    await session.run_cell("x = 1; open('f', 'w').write('1')")
    await session.reset()
    assert len(service.machines) == 1 and not first & set(service.machines)
    assert "NameError" in ((await session.run_cell("x")).error or "")
    assert await session.list_files() == []
    await session.close()
    assert not service.machines
    await sandbox.open()
    await sandbox.close()
    assert not service.machines


async def test_files_go_in_and_out(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    data = bytes(range(256)) * 1000
    await session.put_file("deep/data.bin", data)
    assert (await session.run_cell("len(open('deep/data.bin', 'rb').read())")).value == str(len(data))
    assert await session.get_file("deep/data.bin") == data
    await session.run_cell(
        "import os\nopen('own.txt', 'w').close(); os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe')"
    )
    assert await session.list_files() == ["deep/data.bin", "own.txt"]
    for path in ("missing", "link", "pipe", "deep", "../x", "/etc/passwd", "", "a\0b"):
        with pytest.raises(SandboxUsageError):
            await session.get_file(path)
    with pytest.raises(SandboxUsageError, match="256000"):
        await session.get_file("deep/data.bin", max_bytes=10)
    with pytest.raises(SandboxUsageError):
        await session.put_file("own.txt/below", b"x")


async def test_programs(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    code = "import sys; print(len(sys.stdin.buffer.read())); print('bad', file=sys.stderr); sys.exit(3)"
    result = await session.run_program(["python3", "-c", code], stdin=os.urandom(100_000), environment={"A": "b"})
    assert (result.status, result.stdout, result.stderr) == (RunStatus.ERROR, "100000\n", "bad\n")
    assert result.exit_code == 3 and result.value is None
    result = await session.run_program(["sh", "-c", 'echo "it\'s $MINE"'], environment={"MINE": "a b"})
    assert (result.status, result.stdout, result.exit_code) == (RunStatus.OK, "it's a b\n", 0)
    result = await session.run_program(["no-such-program"])
    assert result.status is RunStatus.ERROR and result.exit_code == 127
    assert (await session.run_program(["sh", "-c", "kill -9 $$"])).status is RunStatus.KILLED
    for arguments in ([], [""], ["echo", "a\0b"]):
        with pytest.raises(SandboxUsageError):
            await session.run_program(arguments)


async def test_limits(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("print('HEAD' + 'x' * 100_000 + 'TAIL'); 'y' * 5000")
    assert result.truncated and result.stdout.startswith("HEAD") and result.stdout.endswith("TAIL\n")
    assert len(result.stdout) < LIMITS.output_bytes + 200 and len(result.value or "") < LIMITS.value_bytes + 200
    with pytest.raises(SandboxUsageError, match="disk limit"):
        await session.put_file("large", b"x" * (2 << 20))
    result = await session.run_program(["sleep", "60"], timeout=0.3)
    assert result.status is RunStatus.TIMEOUT and result.exit_code is None and 0.2 < result.wall_seconds < 3
    result = await session.run_cell("import time; time.sleep(60)", timeout=0.3)
    assert result.status is RunStatus.TIMEOUT and result.alive and 0.2 < result.wall_seconds < 3


async def test_an_interpreter_that_dies_is_killed(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("import os; print('before', flush=True); os._exit(0)")
    assert result.status is RunStatus.KILLED and not result.alive and result.stdout == "before\n"
    again = await session.run_cell("1")
    assert again.status is RunStatus.KILLED and again.error
    with pytest.raises(SandboxUsageError, match="ended"):
        await session.list_files()
    await session.reset()
    assert (await session.run_cell("1")).value == "1"


async def test_a_failure_that_the_code_feigns_is_its_own(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("class WebSocketError(Exception): pass\nraise WebSocketError")
    assert result.status in (RunStatus.KILLED, RunStatus.ERROR)


async def test_a_machine_that_is_gone_is_an_infrastructure_fault(sandbox: E2BSandbox, service: E2BService) -> None:
    session = await sandbox.open()
    service.machines.clear()
    with pytest.raises(SandboxUnavailable):
        await session.put_file("f", b"x")
    with pytest.raises(SandboxUnavailable):
        await session.get_file("f")
    with pytest.raises(SandboxUnavailable):
        await session.run_cell("1")
    await session.close()


async def test_a_wrong_key_and_no_service_are_infrastructure_faults(url: str) -> None:
    sandbox = make_sandbox("e2b", api_key="e2b_wrong", api_url=url, sandbox_url=url)
    with pytest.raises(SandboxUnavailable, match="Invalid API key") as caught:
        await sandbox.open()
    assert "e2b_wrong" not in str(caught.value)
    await sandbox.close()
    sandbox = make_sandbox("e2b", api_key=KEY, api_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(SandboxUnavailable):
        await sandbox.open()
    await sandbox.close()


async def test_closed_is_closed(sandbox: E2BSandbox) -> None:
    session = await sandbox.open()
    await session.close()
    await session.close()
    for use in (session.run_cell("1"), session.run_program(["true"]), session.put_file("a", b""), session.reset()):
        with pytest.raises(SandboxUsageError, match="closed"):
            await use
