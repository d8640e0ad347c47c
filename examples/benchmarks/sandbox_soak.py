"""Thousands of sandboxes, ended at random points, and what is left of them: nothing.

    python examples/benchmarks/sandbox_soak.py --sessions 10000

A session is closed in the middle of its run, its run is cancelled, one of its processes is killed from outside, the
warm template is killed, or it is left to end by itself. In the end no process, mount, control group, descriptor or
temporary file may be left, and the next session works; the exit status says whether that holds.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from forethought.sandboxes import EmbeddedSandbox, Limits, SandboxUnavailable, SandboxUsageError

MARK = f"forethought-{os.getpid()}-"
CELLS = [
    "1 + 1",
    "import time; time.sleep(10)",
    "import os\nfor _ in range(5):\n    if os.fork() == 0:\n        import time; time.sleep(100)",
    "import os; os._exit(3)",
    "open('f', 'w').write('x' * 100000); import os; os.makedirs('a/b/c')",
    "import subprocess; subprocess.Popen(['sleep', '100'])",
    "while True: pass",
    "print('x' * 1_000_000)",
    "kept = bytearray(100 << 20)",
]
LIMITS = Limits(wall_seconds=0.5, memory_bytes=64 * 2**20)


def descendants(process: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            found |= set(map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split()))
    return found.union(*map(descendants, found)) if found else found


def alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def groups() -> set[str]:
    return {f"{folder}/{name}" for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names if MARK in name}


def held() -> dict[str, int]:
    """What this process, and the machine for it, holds."""
    status = Path("/proc/self/status").read_text()
    return {
        "processes": len([process for process in descendants(os.getpid()) if alive(process)]),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "control groups": len(groups()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "temporary files": len([name for name in os.listdir(tempfile.gettempdir()) if name.startswith(MARK)]),
        "threads": len(os.listdir("/proc/self/task")),
        "MiB of memory": int(status.partition("VmRSS:")[2].split()[0]) >> 10,
    }


async def live(sandbox: EmbeddedSandbox, generator: random.Random, end: str) -> None:
    """One session and its end."""
    session = await sandbox.open()
    try:
        running = asyncio.ensure_future(session.run_cell(generator.choice(CELLS)))
        if end != "left alone":
            await asyncio.sleep(generator.random() * 0.05)
        if end == "cancelled":
            running.cancel()
        elif end == "closed":
            await session.close()
        elif end in ("a process killed", "the template killed"):
            below = sorted(descendants(os.getpid()))
            victims = below[:1] if end == "the template killed" else below[-12:]
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(generator.choice(victims), signal.SIGKILL)
        with contextlib.suppress(asyncio.CancelledError, SandboxUsageError):
            await running
        if generator.random() < 0.2 and end == "left alone":
            await session.reset()
            again = await session.run_cell("3")
            assert again.value == "3" or not again.alive, again  # Another session's killer may have met this one.
    finally:
        await session.close()


async def soak(options: argparse.Namespace) -> collections.Counter[str]:
    generator = random.Random(options.seed)
    gate = asyncio.Semaphore(options.width)
    counts: collections.Counter[str] = collections.Counter()
    sandbox = EmbeddedSandbox(LIMITS, spares=8, require=options.tier)
    await sandbox.start()
    print(", ".join(f"{name} {number}" for name, number in held().items()), "at the start", flush=True)
    began = time.monotonic()

    async def one(number: int) -> None:
        async with gate:
            ends = ["cancelled", "closed", "a process killed", "left alone"]
            # Each of these costs all sessions that are open: rarely.
            end = "the template killed" if number % 1000 == 999 else generator.choice(ends)
            try:
                await live(sandbox, generator, end)
                counts[end] += 1
            except SandboxUnavailable:
                counts["unavailable"] += 1
        if sum(counts.values()) % 1000 == 0:
            print(f"{sum(counts.values())} sessions, {time.monotonic() - began:.0f} s: {held()}", flush=True)

    try:
        await asyncio.gather(*(one(number) for number in range(options.sessions)))
        session = await sandbox.open()
        assert (await session.run_cell("2")).value == "2"
        await session.close()
    finally:
        await sandbox.close()
    print(f"{options.sessions} sessions in {time.monotonic() - began:.0f} s: {dict(counts)}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=16, help="sessions at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tier", default="any", choices=["any", "namespaces", "no-namespaces"])
    options = parser.parse_args()
    asyncio.run(asyncio.wait_for(noop(), 1))  # What the first loop keeps is no leak.
    before = held()
    asyncio.run(soak(options))
    time.sleep(0.5)
    after = held()
    kinds = ("processes", "mounts", "control groups", "descriptors", "temporary files")
    left = {kind: after[kind] - before[kind] for kind in kinds if after[kind] > before[kind]}
    print("before:", before)
    print("after: ", after)
    print(f"left: {left or 'nothing'}")
    return 1 if left else 0


async def noop() -> None:
    await asyncio.to_thread(int)


if __name__ == "__main__":
    sys.exit(main())
