"""How many scripted episodes a second `verify_run` replays, checks and grades, in one process.

nice python examples/benchmarks/leaderboard_verify.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from forethought.agents import ScriptedAgent, WordTokenizer
from forethought.agents.context_format import PlainFormat
from forethought.agents.leaderboard import AgentCard, Suite, run_suite, verify_run
from forethought.envs import ToolEnv, background_loop
from forethought.envs.pointer.scripts import uninformed_plan
from forethought.envs.protocol import Spelling
from forethought.envs.search.scripts import gold_decomposition

SEARCH = {"corpus": "examples/search/corpus.jsonl", "questions": "examples/search/questions.jsonl"}
SUITES = {
    "Pointer, one turn in words": {
        "env": "forethought.envs:forethought/Pointer-v0", "tasks": 1000, "attempts": 4, "split": "test",
        "kwargs": {"hops": [0, 12]},
    },
    "Search, several turns with tools in JSON": {
        "env": "forethought.envs:forethought/Search-v0", "tasks": 6, "attempts": 100, "kwargs": SEARCH,
    },
}  # fmt: skip


def make_agent(env: ToolEnv) -> ScriptedAgent:
    if env.codec.spelling is Spelling.WORDS:
        return ScriptedAgent(uninformed_plan, PlainFormat(WordTokenizer(env.vocabulary())))
    return ScriptedAgent(gold_decomposition)


def main() -> None:
    for name, entry in SUITES.items():
        suite = Suite.from_dict(
            {
                "schema": "forethought/suite/1", "name": "benchmark", "version": "1",
                "sampling": {"max_turn_tokens": 4096}, "entries": [{"name": "all", "env_version": "1", **entry}],
            }
        )  # fmt: skip
        folder = Path(tempfile.mkdtemp())
        try:
            background_loop.run(run_suite(suite, make_agent, folder, card=AgentCard(name="script")))
            load, wall, used = os.getloadavg()[0], time.perf_counter(), time.process_time()
            report = verify_run(folder, suite=suite)
            wall, used = time.perf_counter() - wall, time.process_time() - used
            assert report.ok and report.by_token == report.episodes
            print(
                f"{name}: {report.episodes} episodes verified token by token, {report.episodes / used:.0f} a second of "
                f"one core, {report.episodes / wall:.0f} a second of wall time at load {load:.1f}"
            )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
