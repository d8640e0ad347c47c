"""One episode: the policy and the environment in turns, every token recorded as it was sampled or given."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from ..envs.sub_models import SELF
from ..envs.tasks import Task
from ..envs.tool_env import ToolEnv
from .agent import Agent
from .context_run import ContextRun
from .env_spec import EnvSpec
from .episode import Episode, Status

_sessions = itertools.count()
"""Numbers the sessions: the same episode may be in flight twice, for a trainer and for an evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRequest:
    """An episode that is wanted."""

    task: Task
    attempt: int = 0
    """Number of the attempt at the task: attempts share the environment's seed and differ in what is sampled."""
    seed: int = 0
    """Seeds the environment and, together with the attempt, the sampling."""

    @property
    def id(self) -> str:
        """`<task id>/<attempt>`."""
        return f"{self.task.id}/{self.attempt}"

    def new_episode(self, env: dict[str, Any]) -> Episode:
        """The episode before its first turn, in the environment that `env` describes."""
        return Episode(
            id=self.id,
            task_id=self.task.id,
            attempt=self.attempt,
            env=env,
            task=self.task.to_row(),
            seed=self.seed,
        )


async def rollout_episode(env: ToolEnv, spec: EnvSpec, agent: Agent, request: EpisodeRequest) -> Episode:
    """Roll out one episode.

    Raises:
        InfrastructureFault: a tool's, the engine's or a sub-model's infrastructure failed; nothing of the
            episode counts.
        ValueError: the environment's policy may ask a sub-model that the agent does not have.
    """
    for name in env.sub_models:
        if name != SELF and name not in agent.sub_models:
            known = ", ".join([SELF, *agent.sub_models])
            raise ValueError(f"the environment lets its policy ask the sub-model {name!r}; this agent has {known}")
    started = time.perf_counter()
    env.summaries = agent.window.summaries
    env.reset(seed=request.seed, options={"task": request.task})
    episode = request.new_episode(spec.describe(env))
    run = ContextRun(env, agent, f"{episode.id}#{next(_sessions)}", f"{request.seed}/{request.id}")
    outcome = await run.run()
    branch = run.branch
    episode.window = agent.window.describe()
    if agent.intervention is not None:
        episode.window["intervention"] = agent.intervention.name
    episode.segments, episode.turns, episode.plans = branch.segments, branch.turns, branch.plans
    episode.answer = outcome.turn.answer if outcome.terminated else None
    episode.scores = outcome.info["scores"]
    episode.reward = outcome.reward
    episode.stop_reason = outcome.info["stop_reason"]
    episode.status = Status.COMPLETED if outcome.terminated else Status.TRUNCATED
    episode.usage = outcome.info["usage"] | {
        "context_tokens": branch.context_tokens,
        "seconds": time.perf_counter() - started,
    }
    return episode
