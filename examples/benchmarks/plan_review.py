"""How quickly the review page answers with 10,000 plans: the server in a process of its own, asked over HTTP.

    python examples/benchmarks/plan_review.py [--plans 10000] [--requests 300]

Each row is one kind of request as the page sends it, over a connection that stays open; saving includes the write to
the disk (fsync) that an answer waits for. Half of the plans have two reviews when the measurement begins. Prints the
median, the 95th percentile and the longest, in milliseconds; the goal is a 95th percentile of at most 50 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np

from forethought.agents.plans import DraftKind, Provenance, new_draft, read_drafts
from forethought.envs.tasks import Task

SERVE = "import sys; from forethought.trainers.cli import main; main(['plans', 'review', sys.argv[1]])"


def make_folder(folder: Path, plans: int) -> list[str]:
    """Plans of 5 to 10 steps, half of them reviewed twice."""
    rng = random.Random(0)
    drafts, reviews = [], []
    for i in range(plans):
        steps = [
            {
                "number": n,
                "text": f"Find out what fact {rng.randrange(10**6)} says of #{max(1, n - 1)}",
                "after": [n - 1][: n - 1],
            }
            for n in range(1, rng.randint(5, 10) + 1)
        ]
        task = Task(id=f"task-{i}", prompt=f"Question {i}: " + "why and how did it come to this? " * 5)
        provenance = Provenance(kind=DraftKind.MODEL, source="benchmark", author="benchmark", original="-")
        drafts.append(new_draft(task, "", task.prompt, steps, provenance))
        if i % 2:
            for who in ("Ada", "Grace"):
                reviews.append(
                    review_row(drafts[-1].id, who, 1, rng.choice(["accept", "reject"]), steps[rng.randrange(2) :])
                )
    folder.mkdir(exist_ok=True)
    (folder / "plans.jsonl").write_text("".join(json.dumps(draft.to_row()) + "\n" for draft in drafts))
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews))
    return [draft.id for draft in drafts]


def review_row(plan: str, who: str, revision: int, decision: str, steps: list[dict[str, object]]) -> dict[str, object]:
    return {
        "schema": "forethought/plan-review/1", "plan": plan, "reviewer": who, "revision": revision,
        "time": "2026-01-01T00:00:00Z", "decision": decision, "steps": steps, "comment": "", "tab": "",
    }  # fmt: skip


def measure(name: str, count: int, act: Callable[[int], None]) -> float:
    times = []
    for i in range(count):
        began = time.perf_counter()
        act(i)
        times.append(1000 * (time.perf_counter() - began))
    median, p95 = np.percentile(times, [50, 95])
    print(f"{name:34} {median:8.2f} {p95:8.2f} {max(times):8.2f}")
    return float(p95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = make_folder(folder, options.plans)
        steps = {draft.id: draft.steps for draft in read_drafts(folder)[0]}
        began = time.perf_counter()
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            where = urlsplit(next(line.strip() for line in server.stdout if line.startswith("http://")))
            print(
                f"{options.plans} plans, {options.plans // 2 * 2} reviews: up in {time.perf_counter() - began:.1f} s\n"
            )
            connection = http.client.HTTPConnection(where.netloc)

            def ask(path: str, body: object = None) -> None:
                data = None if body is None else json.dumps(body)
                method, kind = ("GET", {}) if data is None else ("POST", {"Content-Type": "application/json"})
                connection.request(method, where.path + path, data, kind)
                response = connection.getresponse()
                text = response.read()
                assert response.status == 200, text

            def pick() -> str:
                return rng.choice(ids)

            rng = random.Random(1)
            fresh = iter(ids)
            count = options.requests
            print(f"{'request, ms':34} {'median':>8} {'p95':>8} {'longest':>8}")
            none_left = urlencode({"reviewer": "Alan", "after": ids[-1]})
            last_page = f"api/plans?reviewer=Ada&state=accept&start={options.plans // 5}"
            requests: dict[str, Callable[[int], None]] = {
                "the page itself": lambda i: ask(""),
                "a plan": lambda i: ask(f"api/plan?{urlencode({'plan': pick(), 'reviewer': 'Alan'})}"),
                "the next plan": lambda i: ask("api/next?reviewer=Alan"),
                "the next plan, from the end": lambda i: ask(f"api/next?{none_left}"),
                "the list": lambda i: ask("api/plans?reviewer=Ada"),
                "the list, searched": lambda i: ask(f"api/plans?reviewer=Ada&words=question+{i}"),
                "the list, accepted, far down": lambda i: ask(last_page),
                "agreement": lambda i: ask("api/agreement"),
                "saving (with fsync)": lambda i: save(ask, next(fresh), steps),
            }
            worst = max(measure(name, count, act) for name, act in requests.items())
            print(f"\nworst 95th percentile: {worst:.1f} ms (goal: at most 50)")
        finally:
            server.kill()
            server.communicate()


def save(ask: Callable[[str, object], None], plan: str, steps: dict[str, list[dict[str, object]]]) -> None:
    row = review_row(plan, "Kurt", 0, "accept", steps[plan])
    del row["schema"], row["time"]
    ask("api/save", row)


if __name__ == "__main__":
    main()
