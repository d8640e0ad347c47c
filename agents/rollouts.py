"""Many episodes at once: asyncio tasks over one engine, no lock-step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from ..envs.tool_env import ToolEnv
from ..sandboxes import InfrastructureFault
from .agent import Agent
from .env_spec import EnvSpec
from .episode import Episode, Status
from .rollout import EpisodeRequest, rollout_episode


async def run_rollouts(
    requests: Iterable[EpisodeRequest],
    spec: EnvSpec,
    agent: Agent,
    *,
    concurrency: int = 256,
    max_retries: int = 2,
) -> AsyncIterator[Episode]:
    """Roll out every request and yield each episode when it ends, in whatever order they end.

    Requests are taken one by one as there is room, so an endless or huge stream of them costs no memory. An episode
    that an infrastructure fault ends is begun again; after the last retry it is yielded with the status `fault`, no
    scores and no reward.

    Args:
        requests: The episodes that are wanted.
        spec: The environment; one instance is made per episode in flight and reused.
        agent: The policy.
        concurrency: Most episodes in flight.
        max_retries: How often an episode is begun again after a fault.
    """
    pending = iter(requests)
    ready: asyncio.Queue[Episode | BaseException | None] = asyncio.Queue(maxsize=concurrency)
    workers = [
        asyncio.create_task(_work(pending, spec, agent, max_retries, ready), name=f"rollout-{i}")
        for i in range(concurrency)
    ]
    try:
        running = len(workers)
        while running:
            item = await ready.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    pending: Iterator[EpisodeRequest],
    spec: EnvSpec,
    agent: Agent,
    max_retries: int,
    ready: asyncio.Queue[Episode | BaseException | None],
) -> None:
    """Take requests until there are none left; an unexpected error goes to whoever reads `ready`."""
    env: ToolEnv | None = None
    try:
        for request in pending:
            env = env or spec.make()
            await ready.put(await _persist(env, spec, agent, request, max_retries))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await ready.put(RuntimeError(f"an engine or environment cancelled its own work: {error!r}"))
    except Exception as error:
        await ready.put(error)
    else:
        await ready.put(None)
    finally:
        if env is not None:
            await env.close_async()


async def _persist(env: ToolEnv, spec: EnvSpec, agent: Agent, request: EpisodeRequest, max_retries: int) -> Episode:
    for retry in range(max_retries + 1):
        try:
            episode = await rollout_episode(env, spec, agent, request)
        except InfrastructureFault as fault:
            message = f"{type(fault).__name__}: {fault}"
        else:
            episode.retries = retry
            return episode
    episode = request.new_episode(spec.describe(env))
    episode.status, episode.stop_reason, episode.fault, episode.retries = Status.FAULT, "fault", message, max_retries
    return episode


async def collect_rollouts(
    requests: Iterable[EpisodeRequest], spec: EnvSpec, agent: Agent, *, concurrency: int = 256, max_retries: int = 2
) -> list[Episode]:
    """All episodes, in the order of the requests."""
    wanted = list(requests)
    by_id = {
        episode.id: episode
        async for episode in run_rollouts(
            wanted, spec, agent, concurrency=min(concurrency, max(1, len(wanted))), max_retries=max_retries
        )
    }
    return [by_id[request.id] for request in wanted]
