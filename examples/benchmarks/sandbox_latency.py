"""What a sandbox costs: milliseconds to a first cell, microseconds of a live one, memory of an idle session.

    python examples/benchmarks/sandbox_latency.py
    python examples/benchmarks/sandbox_latency.py --python ~/venv --rounds 200 --tier no-namespaces

One operation of every kind per round, so that other load on the machine meets all of them alike: compare the ratios
before the milliseconds. `bwrap` is measured where it is installed, warm numpy where the environment has it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from forethought.sandboxes import EmbeddedSandbox, Limits, SandboxUnavailable

NUMPY = "import numpy\nfloat(numpy.ones(3).sum())"
BWRAP = "bwrap --unshare-all --die-with-parent --clearenv --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp"
LIMITS = Limits(memory_bytes=256 * 2**20)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e3


async def first_cell(
    sandbox: EmbeddedSandbox, code: str = "print(1)", *, close_later: list[object] | None = None
) -> None:
    session = await sandbox.open()
    result = await session.run_cell(code)
    assert result.status == "ok", result
    if close_later is None:
        await session.close()
    else:
        close_later.append(session)


async def program(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    await process.communicate()
    assert process.returncode == 0, arguments


async def pooled(sandbox: EmbeddedSandbox) -> float:
    """Acquire and first cell with a spare at hand; closing is not part of it."""
    kept: list[object] = []
    spent = await timed(lambda: first_cell(sandbox, close_later=kept))
    await kept[0].close()  # type: ignore[attr-defined]
    await asyncio.sleep(0.01)  # The next spare is made meanwhile.
    return spent


async def at_once(sandbox: EmbeddedSandbox, width: int, count: int) -> float:
    """Sessions per second: open, first cell, close."""
    gate = asyncio.Semaphore(width)

    async def one() -> None:
        async with gate:
            await first_cell(sandbox)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - began)


def proportional(processes: set[int]) -> float:
    """MiB that processes have for themselves alone."""
    total = 0
    for process in processes:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1024


async def idle_memory(sandbox: EmbeddedSandbox, count: int = 20) -> float:
    def below(process: int) -> set[int]:
        tasks = Path(f"/proc/{process}/task").iterdir()
        children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
        return children.union(*(below(child) for child in children)) if children else set()

    before = below(os.getpid())
    sessions = [await sandbox.open() for _ in range(count)]
    for session in sessions:
        await session.run_cell("x = 1")
    await asyncio.sleep(0.3)
    used = proportional(below(os.getpid()) - before)
    for session in sessions:
        await session.close()
    return used / count


def report(name: str, samples: list[float], base: float) -> None:
    ordered = sorted(samples)
    median, late = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    print(f"{name:44} {median:9.3f} {late:9.3f} {median / base:8.3f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=None, help="prefix of the environment")
    parser.add_argument("--tier", default="any", choices=["any", "namespaces", "no-namespaces"])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    pool = EmbeddedSandbox(LIMITS, python=options.python, require=options.tier, spares=24)
    cold = EmbeddedSandbox(LIMITS, python=options.python, require=options.tier, spares=0)
    warm = EmbeddedSandbox(LIMITS, python=options.python, require=options.tier, spares=0, preload=["numpy"])
    sandboxes = [pool, cold, warm]
    await pool.start()
    for name, value in pool.describe().items():
        print(f"{name}: {value}")
    executable = sys.executable if options.python is None else f"{options.python}/bin/python3"
    kinds: dict[str, Callable[[], Awaitable[float]]] = {
        "python -I -S, print(1)": lambda: timed(lambda: program(executable, "-I", "-S", "-c", "print(1)")),
        "pool: acquire + first cell": lambda: pooled(pool),
        "cold: session + cell + close": lambda: timed(lambda: first_cell(cold)),
    }
    try:
        await warm.start()
        kinds["cold with numpy warm: session + cell + close"] = lambda: timed(lambda: first_cell(warm, NUMPY))
        kinds["python, import numpy"] = lambda: timed(lambda: program(executable, "-c", NUMPY))
    except SandboxUnavailable as error:
        print(f"(numpy is not measured: {error})")
    if shutil.which("bwrap"):
        arguments = [*BWRAP.split(), executable, "-I", "-S", "-c", "print(1)"]
        kinds["bwrap, python -I -S, print(1)"] = lambda: timed(lambda: program(*arguments))
    live = await cold.open()
    await live.run_cell("x = 0")
    kinds["live cell, x += 1"] = lambda: timed(lambda: live.run_cell("x += 1"))
    bare = subprocess.Popen(
        [
            executable,
            "-I",
            "-S",
            "-c",
            "import sys\nx = 0\nfor line in sys.stdin:\n    exec(line); print(x, flush=True)",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    async def pipe() -> None:
        assert bare.stdin is not None and bare.stdout is not None
        bare.stdin.write("x += 1\n")
        bare.stdin.flush()
        bare.stdout.readline()

    kinds["bare pipe to python, x += 1"] = lambda: timed(pipe)
    samples: dict[str, list[float]] = {name: [] for name in kinds}
    for round_ in range(options.rounds + 3):
        for name, work in kinds.items():
            repeat = 20 if "x += 1" in name else 1
            for _ in range(repeat):
                spent = await work()
                if round_ >= 3:
                    samples[name].append(spent)
    base = statistics.median(samples["python -I -S, print(1)"])
    print(f"\n{'ms':44} {'median':>9} {'p95':>9} {'x plain':>8}")
    for name, values in samples.items():
        report(name, values, base)
    rates: dict[str, list[float]] = {"pooled": []}
    for _ in range(10):
        await asyncio.sleep(0.3)  # The pool fills up.
        rates["pooled"].append(await at_once(pool, 8, 24))
    rates["pooled, sustained"] = [await at_once(pool, 8, 200)]
    rates["unpooled"] = [await at_once(cold, 8, 100) for _ in range(3)]
    for name, values in rates.items():
        print(f"8 at a time, {name}: {statistics.median(values):.0f} sessions/s")
    print(f"idle session after a cell: {await idle_memory(cold):.2f} MiB of its own")
    bare.kill()
    bare.communicate()
    for sandbox in sandboxes:
        await sandbox.close()


if __name__ == "__main__":
    asyncio.run(main())
