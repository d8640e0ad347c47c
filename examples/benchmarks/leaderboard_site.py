"""How long the site of 1,000 runs takes to build, and how long its table takes to sort in Chromium.

nice python examples/benchmarks/leaderboard_site.py
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from forethought.agents import ScriptedAgent
from forethought.agents.leaderboard import AgentCard, load_suite, run_suite
from forethought.agents.leaderboard.site import build_site
from forethought.envs import ToolEnv, background_loop
from forethought.envs.conformance import Script
from forethought.envs.pointer.scripts import uninformed_plan
from forethought.envs.search.scripts import search_once

RUNS = 1000
SUITE = Path(__file__).parents[1] / "leaderboard" / "small.toml"
SORT = """() => {
  const times = [];
  for (const button of document.querySelectorAll("thead button")) {
    const start = performance.now();
    button.click();
    document.body.offsetHeight;
    times.push(performance.now() - start);
  }
  return Math.max(...times);
}"""
FILTER = """() => {
  const input = document.querySelector("input[type=search]");
  const start = performance.now();
  input.value = "7";
  input.dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return performance.now() - start;
}"""


def policy(env: ToolEnv) -> Script:
    yield from search_once(env) if "Search" in type(env).__name__ else uninformed_plan(env)


def jitter(result: dict[str, Any], rng: random.Random, number: int) -> dict[str, Any]:
    """Another run's numbers."""
    changed: dict[str, Any] = json.loads(json.dumps(result))
    changed["agent"]["name"] = f"agent {number}"
    shift = rng.uniform(-0.3, 0.3)
    for name in ("value", "low", "high"):
        changed["accuracy"][name] = min(1.0, max(0.0, changed["accuracy"][name] + shift))
    changed["sampled_tokens"] *= rng.lognormvariate(0, 1)
    for entry in changed["entries"]:
        for task in entry["tasks"]:
            task[1] = rng.randint(0, task[2])
    return changed


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        background_loop.run(
            run_suite(load_suite(SUITE), lambda env: ScriptedAgent(policy), folder / "one", card=AgentCard(name="one"))
        )
        result, rng = json.loads((folder / "one" / "result.json").read_text()), random.Random(0)
        for number in range(RUNS):
            copy = folder / "runs" / str(number)
            shutil.copytree(folder / "one", copy)
            agent = jitter(result, rng, number)
            (copy / "result.json").write_text(json.dumps(agent))
        load, started, used = os.getloadavg()[0], time.perf_counter(), time.process_time()
        built = build_site([folder / "runs"], folder / "site")
        print(f"{built.shown} runs built in {time.perf_counter() - started:.1f} s, ", end="")
        size = sum(file.stat().st_size for file in (folder / "site").rglob("*.html"))
        print(f"{time.process_time() - used:.1f} s of one core; {size / 2**20:.0f} MiB; load {load:.1f}")
        in_browser(folder / "site" / "index.html")
    finally:
        shutil.rmtree(folder)


def in_browser(page_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(page_path.as_uri())
        print(f"the page opens in {time.perf_counter() - started:.2f} s, ", end="")
        print(f"slowest sort {page.evaluate(SORT):.0f} ms, filter {page.evaluate(FILTER):.0f} ms", end="; ")
        print(f"load {os.getloadavg()[0]:.1f}")
        browser.close()


if __name__ == "__main__":
    main()
