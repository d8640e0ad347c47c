"""How long a large run takes to open in the viewer, and how much memory it needs.

    python examples/benchmarks/viewer_scale.py
    python examples/benchmarks/viewer_scale.py --megabytes 100 --folder /tmp/run      # keeps the run

Makes a run of made-up episodes of mixed length (one turn of 50 MB among them), starts `forethought view` on it in a
process of its own and asks through HTTP what the page asks: the first list, an episode, a search and filters, while
the file is still being read and after it. Memory is the largest resident set of that process.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

VIEW = """
import argparse, sys
from forethought.trainers.commands import view
parser = argparse.ArgumentParser()
view.add(parser.add_subparsers())
options = parser.parse_args(["view", sys.argv[1]])
sys.exit(options.run(options))
"""
WORDS = [f"word{i}" for i in range(3000)]


def make_run(folder: Path, megabytes: int) -> int:
    """Write rows until the file is large enough; the columns hold no tokens."""
    rng = random.Random(0)
    (folder / "tokens").mkdir(parents=True, exist_ok=True)
    number = written = 0
    with (folder / "episodes.jsonl").open("wb") as file:
        while written < megabytes << 20:
            line = json.dumps(row(rng, number, huge=number == 1000), separators=(",", ":")).encode() + b"\n"
            file.write(line)
            written += len(line)
            number += 1
    return number


def row(rng: random.Random, number: int, *, huge: bool) -> dict[str, Any]:
    def prose(words: int) -> str:
        return " ".join(rng.choices(WORDS, k=words))

    turns, calls = [], rng.randint(0, 6)
    for index in range(calls + 1):
        think = "x" * (50 << 20) if huge and index == 0 else prose(int(rng.paretovariate(1.2) * 20) % 3000)
        call = {"name": "search", "arguments": {"query": prose(4)}, "step": 1, "output": prose(60), "error": None}
        turns.append(
            {
                "text": f"<think>{think}</think><tool_call>search</tool_call>", "observation": call["output"],
                "segment": 0, "start": 200 * index, "end": 200 * index + 150, "calls": [call] if index < calls else [],
                "error": None, "seconds": 0.1, "sampling_seconds": 1.0,
            }
        )  # fmt: skip
    task_id = f"task-{number // 4}"
    steps = [{"number": 1, "text": prose(5), "after": []}]
    return {
        "schema": "forethought/episode/1", "id": f"{task_id}/{number % 4}", "task_id": task_id, "attempt": number % 4,
        "env": {"id": "made/Up-v0", "version": "1", "kwargs": {}},
        "task": {"id": task_id, "prompt": prose(30), "answer": "a", "difficulty": 1.0}, "seed": number, "window": {},
        "segments": [{"kind": "root", "parent": None, "offset": 0, "length": 2000, "sections": [["think", 0, 100]]}],
        "turns": turns, "plans": [{"turn": 0, "steps": steps}], "scores": {"correct": float(rng.random() < 0.6)},
        "reward": rng.random(), "answer": "a", "usage": {"turns": len(turns)}, "stop_reason": "answered",
        "status": "completed", "fault": None, "retries": 0,
    }  # fmt: skip


def ask(url: str, route: str) -> tuple[Any, float]:
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}api/{route}", timeout=120) as answer:
        data = json.loads(answer.read())
    return data, time.perf_counter() - began


def largest_memory(process: int) -> float:
    """Megabytes, where the system tells."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(folder: Path) -> None:
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", VIEW, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        data, _ = ask(url, "episodes?count=100")
        seconds = time.perf_counter() - began
        print(f"first list      {seconds:7.2f} s after the command, {data['lines']:,} lines read so far")
        _, seconds = ask(url, "episode?line=20")
        print(f"an episode      {seconds:7.2f} s, while the file is read")
        while data["reading"]:
            time.sleep(0.25)
            data, _ = ask(url, "episodes?count=100")
        seconds = time.perf_counter() - began
        print(f"whole index     {seconds:7.2f} s, {data['lines']:,} lines, {largest_memory(process.pid):.0f} MB")
        for name, route in {
            "list": "episodes?count=100",
            "search": f"episodes?search={quote('word77 word123')}",
            "filter": "episodes?flags=failed&low=0.5&sort=-reward",
            "same task": "episodes?task_id=task-500",
            "an episode": f"episode?line={data['lines'] - 1}",
            "50 MB turn": "episode?line=1000",
        }.items():
            _, seconds = ask(url, route)
            print(f"{name:<15} {seconds:7.2f} s")
        print(f"largest memory  {largest_memory(process.pid):7.0f} MB")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where the run is made, and kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "episodes.jsonl").exists():
            made = make_run(folder, options.megabytes)
            print(f"made {made:,} episodes, {(folder / 'episodes.jsonl').stat().st_size / 1e6:.0f} MB")
        measure(folder)


if __name__ == "__main__":
    main()
