"""Many sandboxes at the same time: every value right, and how long a live cell takes meanwhile.

    python examples/benchmarks/sandbox_load.py --sessions 200 --seconds 20

Each session may use 64 MB and holds 32 MB of its own, which a cell looks at and changes in a few places. Each runs a
cell a second at a moment of its own: an open load, so that a slow answer delays no other question. Then all sessions
ask at the same moment, again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time

from forethought.sandboxes import EmbeddedSandbox, Limits, Session

START = "state = {number}\nblock = bytearray(b'\\1') * (32 << 20)\nblock[::4096] = state.to_bytes(4) * 2048"
CELL = (
    "assert block[::4096] == state.to_bytes(4) * 2048\nstate = (state * 31 + 7) % 1_000_003\n"
    "block[::4096] = state.to_bytes(4) * 2048\nstate, block[:: 4096][-4:].hex()"
)


def following(state: int) -> int:
    return (state * 31 + 7) % 1_000_003


def shown(state: int) -> str:
    return repr((state, state.to_bytes(4).hex()))


async def ask(session: Session, state: int) -> tuple[int, float]:
    """The next state, checked, and the milliseconds that it took."""
    began = time.perf_counter()
    result = await session.run_cell(CELL)
    spent = (time.perf_counter() - began) * 1e3
    assert result.value == shown(following(state)), result
    return following(state), spent


async def once_a_second(session: Session, state: int, seconds: int, phase: float, out: list[float]) -> int:
    begun = time.monotonic() + phase
    for second in range(seconds):
        await asyncio.sleep(max(0.0, begun + second - time.monotonic()))
        state, spent = await ask(session, state)
        out.append(spent)
    return state


def summary(name: str, times: list[float]) -> str:
    ordered = sorted(times)
    p95, p99 = (ordered[int(len(ordered) * part)] for part in (0.95, 0.99))
    return f"| {name} | {len(ordered)} | {statistics.median(ordered):.2f} | {p95:.2f} | {p99:.2f} | {ordered[-1]:.1f} |"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--tier", default="any", choices=["any", "namespaces", "no-namespaces"])
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before")
    generator = random.Random(0)
    sandbox = EmbeddedSandbox(Limits(memory_bytes=64 * 2**20), spares=8, require=options.tier)
    await sandbox.start()
    try:
        began = time.perf_counter()
        sessions = await asyncio.gather(*(sandbox.open() for _ in range(options.sessions)))
        await asyncio.gather(*(s.run_cell(START.format(number=i)) for i, s in enumerate(sessions)))
        print(f"{len(sessions)} sessions opened and begun in {time.perf_counter() - began:.2f} s")
        print("\n| live cell, ms | cells | median | p95 | p99 | longest |\n|---|---|---|---|---|---|")
        times: list[float] = []
        states = await asyncio.gather(
            *(once_a_second(s, i, options.seconds, generator.random(), times) for i, s in enumerate(sessions))
        )
        print(summary("each session once a second", times))
        times = []
        for _ in range(5):
            answers = await asyncio.gather(*map(ask, sessions, states))
            states = [state for state, _ in answers]
            times += [spent for _, spent in answers]
        print(summary("all at the same moment", times))
        small: list[float] = []
        for session in sessions:
            began = time.perf_counter()
            assert (await session.run_cell("1 + 1")).value == "2"
            small.append((time.perf_counter() - began) * 1e3)
        print(summary("one after another, `1 + 1`", small))
        print("\nevery value was right")
    finally:
        await sandbox.close()
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    asyncio.run(main())
