"""A run: every entry of a suite evaluated, whole or in shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...envs.tool_env import ToolEnv
from ..agent import Agent
from ..episode import Episode
from ..evaluation import evaluate
from .contexts import describe_contexts
from .result import Result, grade_run
from .run_files import AgentCard, RunError, RunFiles, claim, shard_numbers
from .suite import Suite, fitted, tasks_of


async def run_suite(
    suite: Suite,
    make_agent: Callable[[ToolEnv], Agent],
    folder: str | Path,
    *,
    card: AgentCard,
    shard: int = 1,
    shards: int = 1,
    concurrency: int = 64,
    on_episode: Callable[[Episode], None] | None = None,
) -> Result | None:
    """Evaluate an agent on a suite, or on one shard of it.

    Killed at any moment, the same call goes on from there: finished episodes are kept, faults are tried again.

    Args:
        suite: The suite.
        make_agent: The agent for an environment; it may always be the same one. What the suite prescribes (sampling,
            window) is set on a copy.
        folder: Where the run is kept; shards of one run may share it, on one machine or copied together later.
        card: Whose run it is.
        shard: Which part of each entry's tasks, counted from 1.
        shards: How many parts.
        concurrency: Most episodes in flight.
        on_episode: Called with each episode once it is on disk, for progress.

    Returns:
        The result when all shards are there; None while one is missing.

    Raises:
        EvaluationError: the folder holds another run, or the suite cannot be carried out here.
    """
    if not 1 <= shard <= shards:
        raise RunError(f"expected a shard between 1 and {shards}, found {shard}")
    files = RunFiles(folder)
    claim(files.suite_path, suite.to_dict(), "a run of a suite")
    claim(files.agent_path, card.to_dict(), "a run of an agent")
    for entry in suite.entries:
        _, count = files.shards(entry)
        if count not in (0, shards):
            raise RunError(f"{files.folder} holds shards of {count}, found shard {shard} of {shards}: keep to one way")
        if shard not in shard_numbers(entry, shards):
            continue
        env = entry.make()
        try:
            agent = fitted(make_agent(env), suite, entry)
            place = files.shard(entry, shard, shards)
            claim(place / "context.json", describe_contexts(agent, env), "a shard")
            tasks = tasks_of(env, entry, shard, shards)
        finally:
            await env.close_async()
        await evaluate(
            entry.spec,
            agent,
            tasks,
            attempts=entry.attempts,
            seed=suite.seed,
            folder=place,
            concurrency=concurrency,
            on_episode=on_episode,
        )
    return grade_run(files)
