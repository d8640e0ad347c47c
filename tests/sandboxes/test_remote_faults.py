"""The remote sandbox when something is wrong: the token, the network, the server, or too much of everything."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the remote sandbox needs the extra `remote`")

import aiohttp

from forethought.sandboxes import Limits, RunStatus, SandboxUnavailable, SandboxUsageError
from forethought.sandboxes.remote import RemoteSandbox

from .conftest import started
from .remote_server import TOKEN, network, served
from .test_embedded_leaks import descendants, is_zombie


@pytest.fixture(autouse=True)
async def embedded() -> None:
    await (await started("namespaces", spares=0)).close()  # Or a skip.


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with served("--max-body-mb", "4", folder=folder) as (url, _):
        yield url


@pytest.fixture
async def sandbox(url: str) -> AsyncIterator[RemoteSandbox]:
    sandbox = RemoteSandbox(url, token=TOKEN, patience=3.0)
    yield sandbox
    await sandbox.close()


@pytest.mark.parametrize("token", [None, "not-the-right-token", TOKEN + "x", TOKEN[:-1]])
async def test_a_wrong_token_is_refused(url: str, token: str | None) -> None:
    sandbox = RemoteSandbox(url, token=token)
    with pytest.raises(SandboxUnavailable, match="token"):
        await sandbox.open()
    await sandbox.close()


async def test_a_token_never_shows(url: str) -> None:
    sandbox = RemoteSandbox(url, token="a-wrong-token-that-is-secret")
    with pytest.raises(SandboxUnavailable) as caught:
        await sandbox.start()
    assert "secret" not in f"{caught.value}{sandbox.describe()}"
    await sandbox.close()


async def test_sessions_of_another_token_do_not_exist(url: str, sandbox: RemoteSandbox) -> None:
    session = await sandbox.open()
    await session.run_cell("x = 1")
    headers = {"Authorization": "Bearer another-token-for-tests"}
    async with aiohttp.ClientSession(headers=headers) as other:
        async with other.get(f"{url}{session.path}/files") as response:
            assert response.status == 404
        async with other.delete(f"{url}{session.path}"):
            pass
        async with other.put(f"{url}{session.path}", json={"limits": {}}) as response:
            assert response.status == 400
    assert (await session.run_cell("x")).value == "1"


async def test_too_many_sessions_wait_for_a_place_and_then_say_so(tmp_path: Path) -> None:
    with served("--max-sessions", "3", "--max-sessions-per-token", "2", folder=tmp_path) as (url, _):
        mine = RemoteSandbox(url, token=TOKEN, patience=0.3)
        other = RemoteSandbox(url, token="another-token-for-tests", patience=0.3)
        first, _ = await mine.open(), await mine.open()
        with pytest.raises(SandboxUnavailable, match="this token has its 2 sessions"):
            await mine.open()
        await other.open()
        with pytest.raises(SandboxUnavailable, match="the server has its 3 sessions"):
            await other.open()
        opening = asyncio.ensure_future(other.open())
        await asyncio.sleep(0.05)
        await first.close()
        assert (await (await opening).run_cell("1")).value == "1"
        await asyncio.gather(mine.close(), other.close())


async def test_limits_above_the_servers_are_refused(url: str) -> None:
    sandbox = RemoteSandbox(url, token=TOKEN, limits=Limits(processes=100_000))
    with pytest.raises(SandboxUsageError, match="processes=64"):
        await sandbox.open()
    await sandbox.close()


async def test_a_server_killed_in_mid_call_is_an_infrastructure_fault() -> None:
    with served() as (url, process):
        sandbox = RemoteSandbox(url, patience=0.3)
        session = await sandbox.open()
        running = asyncio.ensure_future(session.run_cell("import time; time.sleep(8)"))
        await asyncio.sleep(0.3)
        below = descendants(process.pid)
        process.kill()
        began = time.monotonic()
        with pytest.raises(SandboxUnavailable, match="cannot be reached"):
            await running
        with pytest.raises(SandboxUnavailable):
            await sandbox.open()
        assert time.monotonic() - began < 6
        await sandbox.close()
    await gone(below)


async def test_a_restarted_server_has_forgotten_the_session() -> None:
    with served() as (url, process):
        sandbox = RemoteSandbox(url, patience=20.0)
        session = await sandbox.open()
        running = asyncio.ensure_future(session.run_cell("import time; time.sleep(8)"))
        await asyncio.sleep(0.3)
        process.kill()
        process.wait()
        with served("--port", url.rpartition(":")[2]):
            with pytest.raises(SandboxUnavailable, match="no such session"):
                await running
            assert (await (await sandbox.open()).run_cell("5")).value == "5"
            await sandbox.close()


async def test_no_server_at_all() -> None:
    sandbox = RemoteSandbox("http://127.0.0.1:9", patience=0.1)
    with pytest.raises(SandboxUnavailable, match=re.escape("http://127.0.0.1:9")):
        await sandbox.start()
    await sandbox.close()


async def test_a_server_of_another_kind_is_an_infrastructure_fault() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sandbox = RemoteSandbox(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", patience=0.1)
    with pytest.raises(SandboxUnavailable, match="no sandbox server of ours"):
        await sandbox.start()
    await sandbox.close()
    server.close()


@pytest.mark.parametrize("url", ["", "host:80", "ftp://host", "/path", "http://"])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(SandboxUsageError, match="URL"):
        RemoteSandbox(url)


async def test_an_answer_that_is_lost_is_asked_for_again_and_the_code_runs_once(url: str) -> None:
    async with network(url) as between:
        sandbox = RemoteSandbox(between.url, token=TOKEN, patience=3.0)
        session = await sandbox.open()
        await session.run_cell("n = 0")
        between.cut_answers = 2
        assert (await session.run_cell("n += 1; n")).value == "1"
        assert between.cut_answers == 0
        assert (await session.run_cell("n += 1; n")).value == "2"
        await session.put_file("f", b"1")
        between.cut_answers = 1
        result = await session.run_program(["sh", "-c", "printf x >> f; cat f"])
        assert result.stdout == "1x"
        between.cut_answers = 1
        await session.reset()
        assert await session.list_files() == []
        between.cut_answers = 1
        other = await sandbox.open()
        assert (await other.run_cell("1")).value == "1"
        await sandbox.close()


async def test_a_slow_network_only_takes_longer(url: str) -> None:
    async with network(url) as between:
        sandbox = RemoteSandbox(between.url, token=TOKEN)
        session = await sandbox.open()
        between.piece, between.pause = 1000, 0.001
        data = os.urandom(30_000)
        await session.put_file("f", data)
        assert await session.get_file("f") == data
        between.pause = 0.2
        assert (await session.run_cell("len(open('f', 'rb').read())", timeout=0.1)).value == "30000"
        between.pause = 0.0
        await sandbox.close()


async def test_megabytes_come_and_go(tmp_path: Path) -> None:
    with served("--limit", "output_bytes=16777216", "--limit", "value_bytes=16777216", folder=tmp_path) as (url, _):
        limits = Limits(output_bytes=16 << 20, value_bytes=8 << 20)
        sandbox = RemoteSandbox(url, token=TOKEN, limits=limits)
        session = await sandbox.open()
        data = os.urandom(24 << 20)
        await session.put_file("large", data)
        assert await session.get_file("large", max_bytes=len(data)) == data
        result = await session.run_cell("print('x' * 10_000_000); 'y' * 5_000_000")
        assert len(result.stdout) == 10_000_001 and len(result.value or "") == 5_000_002 and not result.truncated
        await sandbox.close()


async def test_what_is_too_large_for_the_server_is_said(sandbox: RemoteSandbox) -> None:
    session = await sandbox.open()
    result = await session.run_cell("#" * 5_000_000)
    assert result.status is RunStatus.ERROR and "5000" in (result.error or "") and result.alive
    with pytest.raises(SandboxUsageError, match="4194304"):
        await session.put_file("f", b"x" * 5_000_000)
    with pytest.raises(SandboxUsageError, match="4194304"):
        await session.run_program(["cat"], stdin=b"x" * 5_000_000)
    assert (await session.run_cell("1")).value == "1"


async def test_a_session_that_is_idle_is_closed_and_one_in_use_is_not() -> None:
    with served("--idle-seconds", "0.5") as (url, process):
        sandbox = RemoteSandbox(url, patience=1.0)
        before = descendants(process.pid)
        idle, busy = await sandbox.open(), await sandbox.open()
        await idle.run_cell("1")
        assert (await busy.run_cell("import time; time.sleep(1.5); 'there'")).value == "'there'"
        with pytest.raises(SandboxUnavailable, match="idle"):
            await idle.run_cell("1")
        await sandbox.close()
        await gone(descendants(process.pid) - before, spares=8)


async def test_a_client_that_dies_leaves_nothing() -> None:
    code = (
        "import asyncio, sys\nfrom forethought.sandboxes.remote import RemoteSandbox\n"
        "async def main():\n    sandbox = RemoteSandbox(sys.argv[1])\n"
        "    sessions = [await sandbox.open() for _ in range(3)]\n"
        "    runs = [asyncio.ensure_future(s.run_cell('import time; time.sleep(9)')) for s in sessions]\n"
        "    await asyncio.sleep(0.2)\n    print('ready', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with served("--idle-seconds", "0.5", "--max-sessions", "3") as (url, _):
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, stdout=asyncio.subprocess.PIPE)
        assert client.stdout is not None and await client.stdout.readline() == b"ready\n"
        client.kill()
        await client.wait()
        sandbox = RemoteSandbox(url, patience=5.0)
        began = time.monotonic()
        session = await sandbox.open()  # There is a place only once those of the dead one are gone.
        assert time.monotonic() - began < 4
        assert (await session.run_cell("1")).value == "1"
        await sandbox.close()


async def test_a_run_that_nobody_waits_for_any_more_ends(sandbox: RemoteSandbox) -> None:
    session = await sandbox.open()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.run_cell("import time; time.sleep(9)"), 0.2)
        began = time.monotonic()
        assert (await session.run_cell("1")).status is RunStatus.KILLED  # As with every backend.
        await session.reset()
        assert (await session.run_cell("2")).value == "2"
        assert time.monotonic() - began < 3


async def test_many_sessions_at_the_same_time(sandbox: RemoteSandbox) -> None:
    sessions = await asyncio.gather(*(sandbox.open() for _ in range(24)))
    for turn in range(3):
        results = await asyncio.gather(*(session.run_cell(f"{turn} + {i}") for i, session in enumerate(sessions)))
        assert [result.value for result in results] == [str(turn + i) for i in range(24)]
    await asyncio.gather(*(session.close() for session in sessions))


def test_one_loop_after_another(url: str) -> None:
    sandbox = RemoteSandbox(url, token=TOKEN)

    async def once() -> str | None:
        session = await sandbox.open()
        value = (await session.run_cell("3")).value
        await session.close()
        await sandbox.connection.close()
        return value

    assert [asyncio.run(once()) for _ in range(3)] == ["3", "3", "3"]
    asyncio.run(sandbox.close())


async def test_the_server_ends_gracefully() -> None:
    with served("--shutdown-seconds", "10") as (url, process):
        sandbox = RemoteSandbox(url, patience=0.2)
        session = await sandbox.open()
        running = asyncio.ensure_future(session.run_cell("import time; time.sleep(1); 'done'"))
        await asyncio.sleep(0.3)
        below = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert (await running).value == "'done'"
        assert await asyncio.to_thread(process.wait, 10) == 0
        await sandbox.close()
    await gone(below)


async def gone(processes: set[int], spares: int = 0) -> None:
    """Wait until they have ended, but for so many spare sessions (of three processes at most)."""
    until = time.monotonic() + 3
    while len([one for one in processes if not is_zombie(one)]) > 3 * spares and time.monotonic() < until:
        await asyncio.sleep(0.05)
    assert len([one for one in processes if not is_zombie(one)]) <= 3 * spares
