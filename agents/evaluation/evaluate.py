"""An evaluation run: every task attempted k times, every episode on disk as it ends, graded when all have."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from ...envs.tasks import Task, TaskSet
from ..agent import Agent
from ..env_spec import EnvSpec
from ..episode import Episode
from ..episode_store import EpisodeStore, EpisodeWriter
from ..rollout import EpisodeRequest
from ..rollouts import run_rollouts
from .grade import make_report_card
from .report_card import ReportCard

SCHEMA = "forethought/evaluation/1"


class EvaluationError(RuntimeError):
    """An evaluation cannot be run; the message says why and what to do."""


async def evaluate(
    spec: EnvSpec,
    agent: Agent,
    tasks: Sequence[Task] | TaskSet,
    *,
    attempts: int,
    seed: int,
    folder: str | Path,
    concurrency: int = 256,
    oracle: ReportCard | None = None,
    on_episode: Callable[[Episode], None] | None = None,
) -> ReportCard:
    """Attempt every task `attempts` times and grade the episodes.

    The folder holds the episodes (an `EpisodeStore`), `evaluation.json` (what is run, written first) and
    `report_card.json` (written last). Killed at any moment, the same call goes on from there: finished episodes are
    kept, those that ended in a fault are tried again.

    Args:
        spec: The environment.
        agent: The policy.
        tasks: What is asked; ids must differ.
        attempts: Episodes of each task.
        seed: Seeds environments, sampling and the intervals.
        folder: Where the run is kept.
        concurrency: Most episodes in flight.
        oracle: See `make_report_card`.
        on_episode: Called with each episode once it is on disk, for progress.

    Raises:
        EvaluationError: there is nothing to run, two tasks share an id, or the folder holds another run.
    """
    if attempts < 1 or len(tasks) == 0:
        raise EvaluationError(f"nothing to evaluate: {len(tasks)} tasks, {attempts} attempts at each")
    folder = Path(folder)
    claim_folder(folder, describe_evaluation(spec, agent, tasks, attempts=attempts, seed=seed))
    with EpisodeWriter(folder) as writer:
        requests = missing_requests(tasks, attempts, seed, writer.finished)
        in_flight = min(concurrency, max(1, len(tasks) * attempts - len(writer.finished)))
        async with aclosing(run_rollouts(requests, spec, agent, concurrency=in_flight)) as episodes:  # type: ignore[type-var]
            async for episode in episodes:
                writer.append(episode)
                if on_episode is not None:
                    on_episode(episode)
    card = make_report_card(EpisodeStore(folder), oracle=oracle, seed=seed)
    write_json(folder / "report_card.json", card.to_dict())
    return card


def describe_evaluation(
    spec: EnvSpec, agent: Agent, tasks: Sequence[Task] | TaskSet, *, attempts: int, seed: int
) -> dict[str, Any]:
    """What `evaluation.json` says: enough to know whether two runs are the same evaluation.

    Raises:
        EvaluationError: two tasks share an id.
    """
    env = spec.make()
    try:
        described = spec.describe(env)
    finally:
        env.close()
    digest, seen = hashlib.sha256(), set()
    for task in tasks:
        if task.id in seen:
            raise EvaluationError(f"two tasks have the id {task.id!r}; ids must differ within an evaluation")
        seen.add(task.id)
        digest.update(json.dumps(task.to_row(), sort_keys=True).encode("ascii") + b"\n")
    return {
        "schema": SCHEMA,
        "env": described,
        "agent": agent.name,
        "sampling": asdict(agent.sampling),
        "window": agent.window.describe(),
        "tasks": {"count": len(seen), "sha256": digest.hexdigest()},
        "attempts": attempts,
        "seed": seed,
        "versions": {
            "forethought": _package_version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }


def claim_folder(folder: Path, run: dict[str, Any]) -> None:
    """Make the folder this run's, or find that it is."""
    path = folder / "evaluation.json"
    run = json.loads(json.dumps(run))
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        for name, value in run.items():
            if name != "versions" and found.get(name) != value:
                raise EvaluationError(
                    f"{folder} holds another evaluation: its {name} is {_short(found.get(name))}, now it is "
                    f"{_short(value)}; give another folder, or delete this one"
                )
    elif (folder / "episodes.jsonl").exists():
        raise EvaluationError(f"{folder} holds episodes that no evaluation made; give another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, run)


def missing_requests(
    tasks: Sequence[Task] | TaskSet, attempts: int, seed: int, finished: set[str]
) -> Iterator[EpisodeRequest]:
    """The episodes that are not on disk yet. A task's environment has a seed of its own, whatever else is run."""
    for task in tasks:
        for attempt in range(attempts):
            request = EpisodeRequest(task=task, attempt=attempt, seed=crc32(f"{seed}/{task.id}".encode()))
            if request.id not in finished:
                yield request


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a file that is whole or absent, whenever the process dies."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", "utf-8")
    os.replace(partial, path)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _package_version() -> str:
    try:
        return importlib.metadata.version("forethought")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
