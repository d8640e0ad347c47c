"""The embedded sandbox as an ordinary user: everything again, in a subprocess that has become nobody.

And as root of a user namespace that maps nobody else, as rootless containers have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forethought.sandboxes

from .conftest import GAPS, hostile_programs

PRELUDE, PROGRAMS = hostile_programs()
UNSAFE = re.compile(r"ESCAPE|WEAK|NOLIMIT|WROTE|RAISED|\bREAD\b")
PYTHON = "/usr/bin/python3"
SCRIPT = """
import asyncio, json, sys, time
sys.path.insert(0, sys.argv[1])
from forethought.sandboxes import EmbeddedSandbox, Limits, SandboxUnavailable
tier, programs = sys.argv[2], json.load(sys.stdin)

async def one(sandbox, program, gate):
    async with gate:
        session = await sandbox.open()
        began = time.monotonic()
        result = await session.run_cell(program["code"], timeout=program["limit_s"])
        late = time.monotonic() - began - program["limit_s"]
        await session.close()
        after = await sandbox.open()
        clean = await after.run_cell("import os; (os.listdir('.'), 1 + 1)")
        await after.close()
        return {"name": program["name"], "status": result.status, "stdout": result.stdout[:2000],
                "error": result.error, "late": late, "clean": clean.value}

async def main():
    limits = Limits(wall_seconds=30, memory_bytes=256 << 20, disk_bytes=16 << 20, inodes=1024)
    sandbox = EmbeddedSandbox(limits, require=tier, spares=2)
    try:
        await sandbox.start()
    except SandboxUnavailable as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    session = await sandbox.open()
    await session.put_file("a/b", b"data")
    program = await session.run_program(["sh", "-c", "cat a/b; echo more >> a/b; id -u"])
    kept = await session.get_file("a/b")
    await session.run_cell("import os; os.mkdir('shut'); os.chmod('shut', 0)")
    await session.reset()
    gate = asyncio.Semaphore(3)
    found = await asyncio.gather(*(one(sandbox, program, gate) for program in programs))
    about = dict(sandbox.describe())
    await sandbox.close()
    print(json.dumps({"about": about, "program": program.stdout, "kept": kept.decode(), "found": found}))

asyncio.run(main())
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0 or not os.path.exists(PYTHON),
    reason="needs root, to become somebody else, and a Python that everybody may run",
)


ROOTLESS = ["unshare", "--user", "--map-root-user"]


def run(prefix: list[str], tier: str, programs: list[dict[str, Any]], user: int) -> dict[str, Any]:
    """What the script reports as a user, or as what the prefix makes of it."""
    if prefix and subprocess.run([*prefix, "true"], user=user, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a user make user namespaces")
    namespace = Path(forethought.sandboxes.__file__).absolute().parents[2]
    answer = subprocess.run(
        [*prefix, PYTHON, "-c", SCRIPT, str(namespace), tier],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=300,
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "SECRET": "CANARY"},
    )
    assert answer.returncode == 0, answer.stderr
    report: dict[str, Any] = json.loads(answer.stdout)
    return report


@pytest.mark.parametrize("prefix", [[], ROOTLESS], ids=["user", "rootless"])
@pytest.mark.parametrize("tier", ["namespaces", "no-namespaces"])
def test_an_ordinary_user_is_held_as_well(tier: str, prefix: list[str]) -> None:
    programs = [{**program, "code": PRELUDE + "PORT = 9\n" + program["code"]} for program in PROGRAMS]
    report = run(prefix, tier, programs, 65534)
    if "unavailable" in report:
        pytest.skip(report["unavailable"])
    assert report["about"]["tier"] == tier and "watcher" in report["about"]["memory"]
    assert report["about"]["user"] == "the user of the host"
    user = "1000" if tier == "namespaces" else "0" if prefix else "65534"
    assert report["program"] == f"data{user}\n"
    assert report["kept"] == "datamore\n"
    for found in report["found"]:
        if tier == "no-namespaces" and found["name"] in GAPS:
            continue
        assert not UNSAFE.search(found["stdout"]), found
        assert found["clean"] == "([], 2)" and found["late"] < 2, found


@pytest.mark.parametrize("tier", ["namespaces", "no-namespaces"])
def test_root_of_the_machine_that_cannot_become_others_is_refused(tier: str) -> None:
    said = run(ROOTLESS, tier, [], 0)["unavailable"]
    assert "root may not become user" in said and "CAP_SETUID" in said and "seccomp" not in said
