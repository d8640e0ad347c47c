"""Replay: an episode again without its model, to the same observations and the same score."""

from __future__ import annotations

import math

from ..envs.tasks import Task
from ..envs.tool_env import ToolEnv
from .env_spec import EnvSpec
from .episode import Episode, Status

_LIMITS_OF_THE_AGENT = ("context",)


async def replay_episode(episode: Episode, env: ToolEnv | None = None) -> list[str]:
    """Step the environment through the recorded turns and list what differs, one sentence each.

    Args:
        episode: The episode; one with status `fault` has nothing to replay and differs in nothing.
        env: An instance of the episode's environment to use; one is made without it.
    """
    if episode.status is Status.FAULT:
        return []
    env = env or EnvSpec(id=episode.env["id"], kwargs=episode.env["kwargs"]).make()
    if env.version != episode.env["version"]:
        return [f"the environment is version {env.version}, the episode was made with {episode.env['version']}"]
    clock = env.clock
    try:
        return await _differences(episode, env)
    finally:
        env.clock = clock


async def _differences(episode: Episode, env: ToolEnv) -> list[str]:
    # Time is an input like the model's turns: it stands still, and runs out where the record says that it did.
    now = 0.0
    env.clock = lambda: now
    env.reset(seed=episode.seed, options={"task": Task.from_row(episode.task, f"episode {episode.id}")})
    differences: list[str] = []
    outcome = None
    for number, turn in enumerate(episode.turns):
        if number == len(episode.turns) - 1 and episode.stop_reason == "seconds":
            now = math.inf
        if outcome is not None and (outcome.terminated or outcome.truncated):
            return [*differences, f"turn {number} comes after the episode's end"]
        outcome = await env.step_async(turn.text, sampled_tokens=turn.end - turn.start)
        if outcome.observation != turn.observation:
            differences.append(f"turn {number}: the observation differs")
    if episode.stop_reason in _LIMITS_OF_THE_AGENT:
        outcome = env.truncate(episode.stop_reason)
    if outcome is None or not (outcome.terminated or outcome.truncated):
        return [*differences, "the turns end before the episode does"]
    usage = {name: value for name, value in episode.usage.items() if name in outcome.info["usage"]}
    for name, recorded, found in (
        ("scores", episode.scores, outcome.info["scores"]),
        ("reward", episode.reward, outcome.reward),
        ("stop reason", episode.stop_reason, outcome.info["stop_reason"]),
        ("usage", usage, outcome.info["usage"]),
        ("answer", episode.answer, outcome.turn.answer if outcome.terminated else None),
    ):
        if recorded != found:
            differences.append(f"{name}: recorded {recorded!r}, replayed {found!r}")
    return differences
