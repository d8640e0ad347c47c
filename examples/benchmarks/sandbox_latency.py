"""What a sandbox costs: milliseconds to a first cell and of a live one, sessions a second, memory of an idle session.

    python examples/benchmarks/sandbox_latency.py
    python examples/benchmarks/sandbox_latency.py --docker-base debian-python --python ~/venv --rounds 200

One operation of every kind per round, so that other load on the machine meets all of them alike: compare the ratios
before the milliseconds. Bubblewrap, ipykernel, warm numpy and the remote sandbox are measured where they are installed,
Docker where an engine answers and `--docker-base` names an image with python3 (tests/sandboxes/start_docker_engine.sh
makes both). Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from forethought.sandboxes import EmbeddedSandbox, Limits, Sandbox, SandboxUnavailable, Session

Operation = Callable[[], Awaitable[object]]
NUMPY = "import numpy\nfloat(numpy.ones(3).sum())"
BWRAP = "bwrap --unshare-all --die-with-parent --clearenv --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp"
LIMITS = Limits(memory_bytes=256 * 2**20)
LIVE_REPEATS = 20
PIPE = "import sys\nx = 0\nfor line in sys.stdin:\n    exec(line); print(x, flush=True)"


class Bench:
    """What is measured, and what has to be put away."""

    def __init__(self, executable: str) -> None:
        self.executable = executable
        self.stack = contextlib.AsyncExitStack()
        self.once: dict[str, Operation] = {}
        """One a round."""
        self.live: dict[str, Operation] = {}
        """Many a round."""
        self.rates: dict[str, tuple[Operation, int]] = {}
        """And how many of them, 8 at a time."""
        self.memory: dict[str, Callable[[], Awaitable[float]]] = {}
        self.closings: list[asyncio.Task[None]] = []
        self.begun = 0.0
        self.ended = 0.0

    async def started(self, sandbox: Sandbox) -> Sandbox | None:
        """The sandbox, or None where it does not work here."""
        self.stack.push_async_callback(sandbox.close)
        try:
            await sandbox.start()
        except SandboxUnavailable as error:
            print(f"not measured: {error}", file=sys.stderr)
            return None
        return sandbox

    async def first_cell(self, sandbox: Sandbox, code: str = "print(1)", *, close: bool = True) -> None:
        """Open, run, and close: within the measured time, or after it."""
        session = await sandbox.open()
        result = await session.run_cell(code)
        assert result.status == "ok", result
        if close:
            await session.close()
        else:
            self.ended = time.perf_counter()
            self.closings.append(asyncio.create_task(session.close()))

    async def timed(self, operation: Operation) -> float:
        """Milliseconds."""
        self.ended, began = 0.0, time.perf_counter()
        await operation()
        spent = (self.ended or time.perf_counter()) - began
        if self.closings:
            await asyncio.gather(*self.closings)
            self.closings.clear()
            await asyncio.sleep(0.01)  # The next spare is made meanwhile.
        return spent * 1e3

    async def program(self, *arguments: str) -> None:
        """Run a program to its end."""
        process = await asyncio.create_subprocess_exec(
            *arguments, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        await process.communicate()
        assert process.returncode == 0, arguments

    async def at_once(self, operation: Operation, count: int, width: int = 8) -> float:
        """Operations a second, `width` at a time."""
        gate = asyncio.Semaphore(width)

        async def one() -> None:
            async with gate:
                await operation()

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - began)

    async def live_session(self, name: str, sandbox: Sandbox) -> None:
        """Measure cells of a session that stays open."""
        session = await sandbox.open()
        await session.run_cell("x = 0")
        self.live[name] = lambda: session.run_cell("x += 1")

    async def idle(self, sandbox: Sandbox, count: int = 20) -> float:
        """MiB that a session has for itself alone after a cell, all its processes together."""
        before = below(os.getpid())
        sessions: list[Session] = [await sandbox.open() for _ in range(count)]
        for session in sessions:
            await session.run_cell("x = 1")
        await asyncio.sleep(0.3)
        used = private_mib(below(os.getpid()) - before)
        for session in sessions:
            await session.close()
        return used / count


def below(process: int) -> set[int]:
    """All descendants."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found.union(*(below(child) for child in found)) if found else found


def private_mib(processes: set[int]) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1024


async def add_plain(bench: Bench) -> None:
    python = (bench.executable, "-I", "-S", "-c")
    bench.once["fresh python -I -S"] = lambda: bench.program(*python, "print(1)")
    pipe = subprocess.Popen([*python, PIPE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    bench.stack.callback(pipe.communicate)

    async def ask() -> None:
        assert pipe.stdin is not None and pipe.stdout is not None
        pipe.stdin.write("x += 1\n")
        pipe.stdin.flush()
        pipe.stdout.readline()

    async def alone() -> float:
        return private_mib({pipe.pid})

    await ask()
    bench.live["bare pipe to python"] = ask
    bench.memory["bare pipe to python"] = alone
    if shutil.which("bwrap"):
        # It hides /tmp, where an environment may lie: plain Python needs none.
        arguments = [*BWRAP.split(), os.path.realpath(bench.executable), *python[1:], "print(1)"]
        bench.once["bubblewrap, python -I -S"] = lambda: bench.program(*arguments)
        bench.rates["bubblewrap, python -I -S"] = (lambda: bench.program(*arguments), 100)


async def add_embedded(bench: Bench, options: argparse.Namespace) -> None:
    def make(**more: Any) -> EmbeddedSandbox:
        return EmbeddedSandbox(LIMITS, python=options.python, require=options.tier, **more)

    pool, cold = await bench.started(make(spares=24)), await bench.started(make(spares=0))
    assert pool is not None and cold is not None
    print("; ".join(f"{name}: {value}" for name, value in pool.describe().items()), end="\n\n")
    bench.once["embedded: acquire from the pool, first cell"] = lambda: bench.first_cell(pool, close=False)
    bench.once["embedded: cold session, cell, close"] = lambda: bench.first_cell(cold)
    bench.rates["embedded, pooled"] = (lambda: bench.first_cell(pool), 24)
    bench.rates["embedded, pooled, sustained"] = (lambda: bench.first_cell(pool), 240)
    bench.rates["embedded, unpooled"] = (lambda: bench.first_cell(cold), 100)
    bench.memory["embedded"] = lambda: bench.idle(cold)
    await bench.live_session("embedded", cold)
    warm = await bench.started(make(spares=0, preload=["numpy"]))
    if warm is not None:
        bench.once["embedded, numpy warm: cold session, cell, close"] = lambda: bench.first_cell(warm, NUMPY)
        bench.once["fresh python, import numpy"] = lambda: bench.program(bench.executable, "-c", NUMPY)
        bench.memory["embedded, numpy warm"] = lambda: bench.idle(warm)


async def add_remote(bench: Bench) -> None:
    if importlib.util.find_spec("aiohttp") is None:
        return
    from forethought.sandboxes.remote import RemoteSandbox

    command = [sys.executable, "-m", "forethought.sandboxes.remote", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    bench.stack.callback(server.communicate)
    bench.stack.callback(server.terminate)
    assert server.stdout is not None
    remote = await bench.started(RemoteSandbox(server.stdout.readline().split()[-1], limits=LIMITS))
    if remote is not None:
        bench.once["remote, same machine: acquire, first cell"] = lambda: bench.first_cell(remote, close=False)
        bench.rates["remote, same machine"] = (lambda: bench.first_cell(remote), 100)
        await bench.live_session("remote, same machine", remote)


async def add_ipykernel(bench: Bench) -> None:
    if importlib.util.find_spec("ipykernel") is None or importlib.util.find_spec("jupyter_client") is None:
        return
    manager = importlib.import_module("jupyter_client").AsyncKernelManager()
    before = below(os.getpid())
    await manager.start_kernel(extra_arguments=["--colors=NoColor"])
    bench.stack.push_async_callback(manager.shutdown_kernel, now=True)
    client = manager.client()
    client.start_channels()
    bench.stack.callback(client.stop_channels)
    await client.wait_for_ready()
    kernel = below(os.getpid()) - before

    async def alone() -> float:
        return private_mib(kernel)

    await client.execute_interactive("x = 0", store_history=False)
    bench.live["ipykernel"] = lambda: client.execute_interactive("x += 1", store_history=False)
    bench.memory["ipykernel"] = alone


async def add_docker(bench: Bench, base: str) -> None:
    from forethought.sandboxes import DockerSandbox

    client: Any = importlib.import_module("docker").from_env()
    bench.stack.callback(client.close)
    pool = await bench.started(DockerSandbox(LIMITS, base_image=base, spares=4))
    cold = await bench.started(DockerSandbox(LIMITS, base_image=base, spares=0))
    if pool is None or cold is None:
        return
    labels = {"forethought.benchmark": "1"}
    warm = client.containers.run(base, ["sleep", "3600"], detach=True, network_mode="none", labels=labels)
    bench.stack.callback(warm.remove, force=True)
    command = ["python3", "-c", "print(1)"]

    def run() -> None:
        client.containers.run(base, command, remove=True, network_mode="none")

    bench.once["Docker: spare container, first cell"] = lambda: bench.first_cell(pool, close=False)
    bench.once["Docker: cold session, cell, close"] = lambda: bench.first_cell(cold)
    bench.once["docker exec, warm container"] = lambda: asyncio.to_thread(warm.exec_run, command)
    bench.once["docker run"] = lambda: asyncio.to_thread(run)
    bench.rates["docker run"] = (lambda: asyncio.to_thread(run), 16)
    bench.rates["docker exec, warm container"] = (lambda: asyncio.to_thread(warm.exec_run, command), 48)
    await bench.live_session("Docker, attached interpreter", cold)


def row(name: str, samples: list[float], base: float | None = None) -> str:
    ordered = sorted(samples)
    median, late = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    return f"| {name} | {median:.3f} | {late:.3f} |" + (f" {median / base:.2f} |" if base else "")


async def measure(bench: Bench, rounds: int) -> None:
    samples: dict[str, list[float]] = {name: [] for name in (*bench.once, *bench.live)}
    for round_ in range(rounds + 3):
        for name, operation in (bench.once | bench.live).items():
            for _ in range(LIVE_REPEATS if name in bench.live else 1):
                spent = await bench.timed(operation)
                if round_ >= 3:  # The first ones warm up.
                    samples[name].append(spent)
        await asyncio.sleep(0.1)  # Pools fill up.
    base = statistics.median(samples["fresh python -I -S"])
    print("| ms | median | p95 | of a fresh python |\n|---|---|---|---|")
    print("\n".join(row(name, samples[name], base) for name in bench.once))
    print("\n| live cell, `x += 1`, ms | median | p95 |\n|---|---|---|")
    print("\n".join(row(name, samples[name]) for name in bench.live))
    print("\n| 8 at a time | sessions/s |\n|---|---|")
    for name, (operation, count) in bench.rates.items():
        rates = []
        for _ in range(5 if count <= 24 else 1):
            await asyncio.sleep(0.3)
            rates.append(await bench.at_once(operation, count))
        print(f"| {name} | {statistics.median(rates):.0f} |")
    print("\n| idle after a cell | MiB of its own |\n|---|---|")
    for name, ask in bench.memory.items():
        print(f"| {name} | {await ask():.2f} |")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=None, help="prefix of the environment that the embedded sandbox mounts")
    parser.add_argument("--tier", default="any", choices=["any", "namespaces", "no-namespaces"])
    parser.add_argument("--docker-base", help="an image with python3")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before", end="; ")
    bench = Bench(sys.executable if options.python is None else f"{options.python}/bin/python3")
    async with bench.stack:
        await add_plain(bench)
        await add_embedded(bench, options)
        await add_remote(bench)
        await add_ipykernel(bench)
        if options.docker_base:
            await add_docker(bench, options.docker_base)
        await measure(bench, options.rounds)
        print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    asyncio.run(main())
