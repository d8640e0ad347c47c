"""The difficulty filter: tasks that the model neither always solves nor never."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ...agents.agent import Agent
from ...agents.episode import Status
from ...agents.episode_store import EpisodeStore, EpisodeWriter
from ...agents.rollout import EpisodeRequest
from ...agents.rollouts import run_rollouts
from ...envs import background_loop
from ...envs.tasks import Task
from ..progress import Progress
from ..recipe import FilterTable, Recipe
from ..toml_tables import ConfigError


def filter_tasks(recipe: Recipe, table: FilterTable, agent: Agent, folder: Path, progress: Progress) -> None:
    """Attempt every task, then write `tasks.jsonl`: the tasks within the range, pass rates in their metadata.

    Raises:
        ConfigError: there are no tasks after those that are skipped, or none is within the range.
    """
    spec = recipe.env.spec()
    source = spec.make().tasks
    count = min(table.tasks, len(source) - table.skip)
    if count < 1:
        raise ConfigError(f"filter.skip: {table.skip} tasks are left out, and the environment has {len(source)} in all")
    tasks = {task.id: task for task in (source[table.skip + i] for i in range(count))}
    counter = progress.counter("filter", count * table.attempts)

    def requests(finished: set[str]) -> Iterator[EpisodeRequest]:
        for i, task in enumerate(tasks.values()):
            for attempt in range(table.attempts):
                request = EpisodeRequest(task=task, attempt=attempt, seed=recipe.seed + table.skip + i)
                if request.id not in finished:
                    yield request

    async def run() -> None:
        slots = recipe.sampling.slots
        with EpisodeWriter(folder) as writer:
            async with aclosing(run_rollouts(requests(writer.finished), spec, agent, concurrency=slots)) as episodes:  # type: ignore[type-var]
                async for episode in episodes:
                    writer.append(episode)
                    counter.show(len(writer.finished))

    background_loop.run(run())
    rates = pass_rates(folder)
    low, high = table.keep
    kept = [_with_pass_rate(task, rates[i]) for i, task in tasks.items() if low <= rates.get(i, -1.0) <= high]
    progress.note(f"filter  kept {len(kept)} of {len(tasks)} tasks with pass rates in {list(table.keep)}")
    if not kept:
        raise ConfigError(
            f"filter.keep: no task has a pass rate within {list(table.keep)}; widen it or make more traces"
        )
    partial = folder / "tasks.jsonl.partial"
    partial.write_text("".join(json.dumps(task.to_row()) + "\n" for task in kept), "utf-8")
    partial.rename(folder / "tasks.jsonl")


def pass_rates(folder: Path) -> dict[str, float]:
    """Share of correct attempts by task id; faults are not counted."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for row in EpisodeStore(folder).rows():
        if row["status"] != Status.FAULT:
            outcomes[row["task_id"]].append(row["scores"].get("correct", 0.0) >= 1.0)
    return {task_id: sum(attempts) / len(attempts) for task_id, attempts in outcomes.items()}


def _with_pass_rate(task: Task, rate: float) -> Task:
    return replace(task, metadata={**task.metadata, "pass_rate": rate})
