"""Every hostile program ends in its safe outcome, in both tiers, and the session after it is clean."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from forethought.sandboxes import EmbeddedSandbox, Limits, RunStatus, SandboxUsageError

from .conftest import GAPS, Tier, hostile_programs, started

PRELUDE, PROGRAMS = hostile_programs()
LIMITS = Limits(wall_seconds=30, memory_bytes=256 * 2**20, disk_bytes=16 * 2**20, inodes=1024, output_bytes=65536)
UNSAFE = re.compile(r"ESCAPE|WEAK|NOLIMIT|WROTE|RAISED|NOT FILTERED|\bREAD\b")
SHM = Path("/dev/shm/sbx_canary")

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no ../shared/hostile/programs.json (set FORETHOUGHT_SHARED)")


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, str]]:
    """A file with a secret, a socket beside it, a listener, a shared file, a secret in the environment."""
    with tempfile.TemporaryDirectory(prefix="canary-") as folder, socket.socket() as listener:
        os.chmod(folder, 0o755)
        canary = Path(folder, "secret")
        canary.write_text("CANARY")
        beside = socket.socket(socket.AF_UNIX)
        beside.bind(f"{folder}/sock")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        SHM.write_text("x")
        os.environ["SANDBOX_TEST_SECRET"] = "CANARY"
        yield {"{canary_file}": str(canary), "{canary_folder}": folder, "{port}": str(listener.getsockname()[1])}
        del os.environ["SANDBOX_TEST_SECRET"]
        SHM.unlink(missing_ok=True)
        beside.close()


@pytest.fixture(params=["namespaces", "no-namespaces"])
def tier(request: pytest.FixtureRequest) -> Tier:
    chosen: Tier = request.param
    return chosen


@pytest_asyncio.fixture
async def sandbox(tier: Tier) -> Any:
    sandbox = await started(tier, LIMITS)
    yield sandbox
    await sandbox.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program['id']}-{program['name']}")
async def test_hostile_program(
    sandbox: EmbeddedSandbox, tier: Tier, host: dict[str, str], program: dict[str, Any]
) -> None:
    if tier == "no-namespaces" and program["name"] in GAPS:
        pytest.xfail(GAPS[program["name"]])
    code = PRELUDE + f"PORT = {host['{port}']}\n" + program["code"]
    for name, value in host.items():
        code = code.replace(name, value)
    session = await sandbox.open()
    began = time.monotonic()
    result = await session.run_cell(code, timeout=program["limit_s"])
    assert time.monotonic() - began < program["limit_s"] + 1.5
    assert not UNSAFE.search(result.stdout), result
    assert len(result.stdout) + len(result.stderr) < 2 * LIMITS.output_bytes + 1000
    if result.alive:
        await session.run_cell("1", timeout=2)
    for path in await files_of(session):
        try:
            await session.get_file(path)
        except SandboxUsageError:
            continue
    await session.close()
    after = await sandbox.open()
    clean = await after.run_cell("import os; (os.listdir('.'), 1 + 1)")
    assert (clean.status, clean.value) == (RunStatus.OK, "([], 2)"), clean
    await after.close()


async def files_of(session: Any) -> list[str]:
    try:
        found: list[str] = await session.list_files()
    except SandboxUsageError:
        return []
    return found
