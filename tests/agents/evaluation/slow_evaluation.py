"""An evaluation that a test kills: `python slow_evaluation.py FOLDER`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import forethought.envs  # noqa: F401
from forethought.agents import EnvSpec, ScriptedAgent
from forethought.agents.evaluation import ReportCard, evaluate
from forethought.envs.pointer import PointerTasks
from forethought.envs.tool_env import ToolEnv

SPEC = EnvSpec(id="forethought/Pointer-v0", kwargs={"split": "test", "hops": (0, 4)})
TASKS = PointerTasks("test", (0, 4)).head(40)


def any_length(env: ToolEnv) -> Generator[str, str, None]:
    """Think for 0 to 8 steps, whatever the number of hops."""
    path: list[str] = env.task.metadata["path"]
    steps = int(env.np_random.integers(9))
    visited = [path[min(step, len(path) - 1)] for step in range(steps + 1)]
    yield env.codec.write_turn(plan=["follow"], think=" ".join(visited[1:]), answer=visited[-1])


async def run(folder: Path, **changes: Any) -> ReportCard:
    arguments = {"spec": SPEC, "tasks": TASKS, "attempts": 3, "seed": 7, "folder": folder, "concurrency": 8}
    return await evaluate(**{"agent": ScriptedAgent(any_length), **arguments, **changes})


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), on_episode=lambda episode: time.sleep(0.005)))
