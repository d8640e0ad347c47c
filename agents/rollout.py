"""One episode: the policy and the environment in turns, every token recorded as it was sampled or given."""

from __future__ import annotations

import itertools
import time
import zlib
from dataclasses import dataclass, replace
from typing import Any

from ..envs.tasks import Task
from ..envs.tool_env import StepOutcome, ToolEnv
from .agent import Agent
from .engine import Sample
from .env_spec import EnvSpec
from .episode import Episode, PlanVersion, SectionSpan, Segment, Status, Turn

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
        InfrastructureFault: a tool's or the engine's infrastructure failed; nothing of the episode counts.
    """
    started = time.perf_counter()
    env.reset(seed=request.seed, options={"task": request.task})
    engine = agent.engine_for(env)
    form = agent.format
    segment = Segment()
    segment.give(form.opening(env))
    episode = request.new_episode(spec.describe(env))
    episode.segments.append(segment)
    session = f"{episode.id}#{next(_sessions)}"
    context_tokens = 0
    try:
        while True:
            room = _room(env, engine.context_limit, len(segment.token_ids), agent.sampling.max_tokens)
            if room <= 0:
                outcome = env.truncate("context")
                break
            params = replace(
                agent.sampling,
                max_tokens=room,
                stop_token_ids=form.stop_token_ids,
                seed=_turn_seed(request, len(episode.turns)),
            )
            asked = time.perf_counter()
            sample = await engine.sample(segment.token_ids, params, session=session)
            sampled = time.perf_counter()
            context_tokens += len(segment.token_ids) + len(sample.token_ids)
            ended = bool(sample.token_ids) and sample.token_ids[-1] in form.stop_token_ids
            parsed = env.parse(form.tokenizer.pieces(sample.token_ids[:-1] if ended else sample.token_ids))
            outcome = await env.step_async(parsed, sampled_tokens=len(sample.token_ids))
            _record(episode, segment, sample, outcome)
            episode.turns[-1].sampling_seconds = sampled - asked
            episode.turns[-1].seconds = time.perf_counter() - sampled
            if outcome.terminated or outcome.truncated:
                break
            segment.give(form.observation(outcome.observation, ended))
    finally:
        engine.release(session)
    _finish(episode, outcome, context_tokens, time.perf_counter() - started)
    return episode


def _room(env: ToolEnv, context_limit: int, context: int, turn_limit: int) -> int:
    """Tokens that the next turn may have."""
    room = min(turn_limit, context_limit - context)
    left = env.tokens_left()
    return room if left is None else min(room, left)


def _turn_seed(request: EpisodeRequest, turn: int) -> int:
    """A seed for one turn that depends on the episode alone, not on what else is in flight."""
    return zlib.crc32(f"{request.seed}/{request.id}/{turn}".encode(errors="backslashreplace"))


def _record(episode: Episode, segment: Segment, sample: Sample, outcome: StepOutcome) -> None:
    start = len(segment.token_ids)
    segment.append_sampled(sample.token_ids, sample.logprobs)
    turn = outcome.turn
    segment.sections += [SectionSpan(str(s.kind), start + s.token_start, start + s.token_end) for s in turn.sections]
    if turn.plan is not None and turn.error is None:
        steps = [{"number": s.number, "text": s.text, "after": list(s.after)} for s in turn.plan.steps]
        episode.plans.append(PlanVersion(turn=len(episode.turns), steps=steps))
    episode.turns.append(
        Turn(
            text=turn.text,
            observation=outcome.observation,
            segment=len(episode.segments) - 1,
            start=start,
            end=len(segment.token_ids),
            calls=outcome.calls,
            error=outcome.info["error"],
        )
    )
    if outcome.terminated:
        episode.answer = turn.answer


def _finish(episode: Episode, outcome: StepOutcome, context_tokens: int, seconds: float) -> None:
    episode.scores = outcome.info["scores"]
    episode.reward = outcome.reward
    episode.stop_reason = outcome.info["stop_reason"]
    episode.status = Status.COMPLETED if outcome.terminated else Status.TRUNCATED
    episode.usage = outcome.info["usage"] | {"context_tokens": context_tokens, "seconds": seconds}
