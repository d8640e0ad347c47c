"""Plan traces: episodes of a scripted policy, tokenised like everybody's, for supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

from ...agents.agent import ScriptedAgent
from ...agents.context_format import ContextFormat
from ...agents.episode_store import EpisodeWriter
from ...agents.rollout import EpisodeRequest
from ...agents.rollouts import run_rollouts
from ...envs import background_loop
from ..progress import Progress
from ..recipe import Recipe, TracesTable
from ..scripts import load_script


def make_traces(recipe: Recipe, table: TracesTable, format: ContextFormat, folder: Path, progress: Progress) -> None:
    """Roll the script out on the first tasks of the environment; a run that was killed goes on where it was."""
    spec = recipe.env.spec()
    agent = ScriptedAgent(load_script(table.script), format, window=recipe.window.window())
    tasks = spec.make().tasks
    counter = progress.counter("traces", table.episodes)

    async def run() -> None:
        with EpisodeWriter(folder) as writer:
            async with aclosing(run_rollouts(requests(writer.finished), spec, agent, concurrency=16)) as episodes:  # type: ignore[type-var]
                async for episode in episodes:
                    writer.append(episode)
                    counter.show(len(writer.finished))

    def requests(finished: set[str]) -> Iterator[EpisodeRequest]:
        for i in range(table.episodes):
            request = EpisodeRequest(task=tasks[i % len(tasks)], attempt=i // len(tasks), seed=recipe.seed + i)
            if request.id not in finished:
                yield request

    background_loop.run(run())
