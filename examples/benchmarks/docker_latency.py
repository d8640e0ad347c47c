"""How long a cell takes in Docker: attached session against `docker exec` and `docker run`, in one run.

eval "$(tests/sandboxes/start_docker_engine.sh)"
python examples/benchmarks/docker_latency.py --base "$FORETHOUGHT_DOCKER_BASE"

The ways take turns, one operation each per round, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forethought.sandboxes import Limits
from forethought.sandboxes.docker_backend import DockerSandbox

Operation = Callable[[], Awaitable[object]]
CODE = "x = 1 + 1; print(x)"


async def timed(operation: Operation) -> float:
    started = time.perf_counter()
    await operation()
    return (time.perf_counter() - started) * 1000


async def at_a_time(operations: list[Operation], each: int) -> tuple[list[float], float]:
    """Every operation `each` times, all of them side by side: milliseconds, and operations in a second."""

    async def repeat(operation: Operation) -> list[float]:
        return [await timed(operation) for _ in range(each)]

    started = time.perf_counter()
    times = [item for part in await asyncio.gather(*map(repeat, operations)) for item in part]
    return times, len(times) / (time.perf_counter() - started)


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "n": len(ordered),
        "median_ms": round(statistics.median(ordered), 3),
        "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="an image with python3")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()

    client: Any = importlib.import_module("docker").from_env()
    sandbox = DockerSandbox(Limits(), base_image=arguments.base, spares=4)
    unpooled = DockerSandbox(Limits(), base_image=arguments.base, spares=0)
    await sandbox.start()
    await unpooled.start()
    sessions = [await sandbox.open() for _ in range(8)]
    warm = client.containers.run(
        arguments.base, ["sleep", "600"], detach=True, network_mode="none", labels={"forethought.benchmark": "1"}
    )

    closings: list[asyncio.Task[None]] = []

    async def pooled() -> None:
        session = await sandbox.open()
        await session.run_cell(CODE)
        closings.append(asyncio.create_task(session.close()))  # awaited after the clock has stopped

    async def cold() -> None:
        session = await unpooled.open()
        await session.run_cell(CODE)
        await session.close()

    def cell(number: int) -> Operation:
        return lambda: sessions[number].run_cell(CODE)

    def run() -> None:
        client.containers.run(arguments.base, ["python3", "-c", CODE], remove=True, network_mode="none")

    operations: dict[str, Operation] = {
        "cell in an attached session": cell(0),
        "spare + first cell": pooled,
        "new session + first cell + close": cold,
        "docker exec into a warm container": lambda: asyncio.to_thread(warm.exec_run, ["python3", "-c", CODE]),
        "docker run": lambda: asyncio.to_thread(run),
    }
    times: dict[str, list[float]] = {name: [] for name in operations}
    try:
        for _ in range(arguments.rounds):
            for name, operation in operations.items():
                for _ in range(20 if operation is operations["cell in an attached session"] else 1):
                    times[name].append(await timed(operation))
                await asyncio.gather(*closings)
                closings.clear()
                await asyncio.sleep(0.5)  # the pool fills up again
        report: dict[str, Any] = {name: summary(values) for name, values in times.items()}
        for name, group, each in (
            ("8 at a time: cell in an attached session", [cell(number) for number in range(8)], 200),
            ("8 at a time: docker exec", [operations["docker exec into a warm container"]] * 8, 4),
        ):
            values, rate = await at_a_time(group, each)
            report[name] = {**summary(values), "per_second": round(rate, 1)}
        report["machine"] = {"processors": os.cpu_count(), "load": os.getloadavg()[0], **sandbox.describe()}
        print(json.dumps(report, indent=2))
    finally:
        await sandbox.close()
        await unpooled.close()
        warm.remove(force=True)
        client.close()


if __name__ == "__main__":
    asyncio.run(main())
