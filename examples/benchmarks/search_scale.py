"""How the passage index grows: build time, disk, opening, memory and query time, beside bm25s which is in memory.

    python examples/benchmarks/search_scale.py                  # 10k, 100k and 1M passages
    python examples/benchmarks/search_scale.py --sizes 10000

Passages are synthetic and the same every time: about 80 words drawn from 200,000 by Zipf's law, with a title of three.
Queries are four words out of one passage. Each measurement runs in a process of its own, so that its memory is its own:
"MiB" is what opening and querying added to the process (anonymous memory | with the mapped pages of the index), and
"build MiB" is what building added at its peak. bm25s keeps scores only, ours the passages too; 1M passages take bm25s
several GiB (`--bm25s-limit`).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from forethought.envs.search import Passage

VOCABULARY = 200_000
QUERIES = 300
BATCH = 10_000
COLUMNS = ("who", "passages", "build s", "build MiB", "disk MiB", "open ms", "MiB", "median ms", "p95 ms")


def words() -> list[str]:
    """`VOCABULARY` different words, the most frequent first."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    rng = random.Random(0)
    seen = {"".join(rng.choices(syllables, k=rng.randint(2, 5))): None for _ in range(2 * VOCABULARY)}
    return list(seen)[:VOCABULARY]


def passages(count: int) -> Iterator[Passage]:
    """`count` synthetic passages; passage i is the same whatever `count` is."""
    vocabulary = np.array(words(), dtype=object)
    frequency = 1.0 / np.arange(1, len(vocabulary) + 1)
    cumulative = np.cumsum(frequency / frequency.sum())
    for start in range(0, count, BATCH):
        rng = np.random.default_rng([7, start])
        lengths = rng.integers(60, 101, size=BATCH)
        drawn = vocabulary[np.searchsorted(cumulative, rng.random(int(lengths.sum()) + 3 * BATCH))]
        place = 0
        for i, length in enumerate(lengths[: count - start].tolist()):
            title, text = drawn[place : place + 3], drawn[place + 3 : place + 3 + length]
            place += 3 + length
            yield Passage(str(start + i), " ".join(title), " ".join(text))


def queries(count: int) -> list[str]:
    """`QUERIES` queries of four words, each out of one of the first passages."""
    rng = random.Random(1)
    return [" ".join(rng.sample(passage.text.split(), 4)) for passage in passages(min(count, QUERIES))]


def memory(field: str = "RssAnon") -> int:
    """Bytes of this process by `/proc/self/status`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def timed_queries(search: Any, asked: list[str]) -> dict[str, float]:
    """Median and 95th percentile in seconds of `search`, after a warm-up of 20 queries."""
    for query in asked[:20]:
        search(query)
    seconds = []
    for query in asked:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return {"median": statistics.median(seconds), "p95": statistics.quantiles(seconds, n=20)[-1]}


def build_ours(count: int, directory: Path) -> dict[str, float]:
    """Build the index in `directory`."""
    from forethought.envs.search import PassageIndex

    next(passages(1))
    before, start = memory("VmRSS"), time.perf_counter()
    PassageIndex.build(directory, passages(count))
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in directory.iterdir())
    return {"build": seconds, "build_bytes": memory("VmHWM") - before, "disk": size}


def query_ours(count: int, directory: Path) -> dict[str, float]:
    """Open the index in `directory` and query it."""
    import tantivy  # noqa: F401  (its import is no part of opening)

    from forethought.envs.search import PassageIndex

    asked, before, mapped = queries(count), memory(), memory("RssFile")
    start = time.perf_counter()
    index = PassageIndex(directory)
    opened = time.perf_counter() - start
    times = timed_queries(lambda query: index.search_sync(query, 10), asked)
    return {"open": opened, "anonymous": memory() - before, "mapped": memory("RssFile") - mapped, **times}


def build_bm25s(count: int, directory: Path) -> dict[str, float]:
    """Build and save bm25s in `directory`: its scores, without the passages."""
    import bm25s

    next(passages(1))
    before, start = memory("VmRSS"), time.perf_counter()
    texts = [f"{passage.title} {passage.text}" for passage in passages(count)]
    built = bm25s.BM25()
    built.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    built.save(directory, show_progress=False)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in directory.iterdir())
    return {"build": seconds, "build_bytes": memory("VmHWM") - before, "disk": size}


def query_bm25s(count: int, directory: Path) -> dict[str, float]:
    """Load bm25s from `directory` into memory and query it."""
    import bm25s

    asked, before, mapped = queries(count), memory(), memory("RssFile")
    start = time.perf_counter()
    index = bm25s.BM25.load(directory)
    opened = time.perf_counter() - start

    def search(query: str) -> None:
        index.retrieve(bm25s.tokenize([query], stopwords="en", show_progress=False), k=10, show_progress=False)

    times = timed_queries(search, asked)
    return {"open": opened, "anonymous": memory() - before, "mapped": memory("RssFile") - mapped, **times}


STEPS = {
    "ours": (build_ours, query_ours),
    "bm25s": (build_bm25s, query_bm25s),
}


def measure(who: str, count: int) -> str:
    """One line of the table: the steps of `who`, each run by a fresh interpreter."""
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for step in range(len(STEPS[who])):
            command = [sys.executable, __file__, "--step", who, str(step), scratch, "--sizes", str(count)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result |= json.loads(done.stdout.splitlines()[-1])
    mib = {key: f"{result[key] / 2**20:,.0f}" for key in ("build_bytes", "disk", "anonymous", "mapped")}
    times = [f"{1000 * result[key]:.2f}" for key in ("open", "median", "p95")]
    build = [f"{result['build']:.1f}", mib["build_bytes"], mib["disk"]]
    return line([who, f"{count:,}", *build, times[0], f"{mib['anonymous']} | {mib['mapped']}", *times[1:]])


def line(cells: list[str]) -> str:
    """Cells as a line of a table."""
    return " ".join(cell.rjust(11) for cell in cells)


def main() -> None:
    """Run the benchmark, or one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--bm25s-limit", type=int, default=1_000_000, help="largest corpus given to bm25s")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        who, step, scratch = arguments.step
        print(json.dumps(STEPS[who][int(step)](arguments.sizes[0], Path(scratch, "index"))))
        return
    print(line(list(COLUMNS)), flush=True)
    for count in arguments.sizes:
        print(measure("ours", count), flush=True)
        if count <= arguments.bm25s_limit:
            print(measure("bm25s", count), flush=True)


if __name__ == "__main__":
    main()
