import time
from dataclasses import replace
from typing import Any

import pytest

from forethought.agents import EnvSpec, Episode, EpisodeRequest, ScriptedAgent, Status, replay_episode, rollout_episode
from forethought.envs import ToolEnv
from forethought.envs.conformance import Script
from forethought.envs.protocol import Call


def solve(env: ToolEnv) -> Script:
    yield "garbage"
    yield env.codec.write_turn(plan=["ask"], calls=[Call("echo", {"text": "中"}), Call("nothing", {})])
    yield env.codec.write_turn(answer=env.task.answer)


async def episode_of(spec: EnvSpec, script: Any = solve) -> Episode:
    env = spec.make()
    return await rollout_episode(env, spec, ScriptedAgent(script), EpisodeRequest(task=env.tasks[3], seed=5))


async def test_a_true_record_differs_in_nothing(echo_spec: EnvSpec) -> None:
    episode = await episode_of(echo_spec)
    assert await replay_episode(episode) == []
    env = echo_spec.make()
    assert await replay_episode(episode, env) == await replay_episode(episode, env) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"reward": 2.0}, "reward: recorded 2.0, replayed 1.0"),
        ({"scores": {"correct": 0.5, "answered": 1.0}}, "scores: recorded"),
        ({"stop_reason": "turns"}, "stop reason: recorded 'turns', replayed 'answered'"),
        ({"answer": "other"}, "answer: recorded 'other', replayed 'word3'"),
        ({"usage": {"turns": 1, "seconds": 5.0}}, "usage: recorded {'turns': 1}"),
        ({"env": {"id": "tests/Echo-v0", "version": "0", "kwargs": {}}}, "the environment is version 1"),
        ({"task": {"id": "e3", "prompt": "?", "answer": "x"}}, "reward: recorded 1.0, replayed 0.0"),
    ],
)
async def test_a_changed_record_is_found(change: dict[str, Any], difference: str, echo_spec: EnvSpec) -> None:
    differences = await replay_episode(replace(await episode_of(echo_spec), **change))
    assert any(difference in found for found in differences), differences


async def test_a_changed_turn_or_observation_is_found(echo_spec: EnvSpec) -> None:
    episode = await episode_of(echo_spec)
    episode.turns[1].observation += " "
    assert await replay_episode(episode) == ["turn 1: the observation differs"]
    episode = await episode_of(echo_spec)
    episode.turns[1].text = episode.turns[1].text.replace("中", "国")
    assert await replay_episode(episode) == ["turn 1: the observation differs"]
    episode = await episode_of(echo_spec)
    last = episode.turns.pop()
    assert "the turns end before the episode does" in await replay_episode(episode)
    episode.turns += [last, last]
    assert await replay_episode(episode) == ["turn 3 comes after the episode's end"]


async def test_time_is_replayed_not_measured(echo_spec: EnvSpec) -> None:
    spec = EnvSpec(id=echo_spec.id, kwargs={"budget": {"seconds": 0.05}})

    def dawdle(env: ToolEnv) -> Script:
        yield "garbage"
        time.sleep(0.1)
        yield "garbage"

    episode = await episode_of(spec, dawdle)
    assert (episode.status, episode.stop_reason) == (Status.TRUNCATED, "seconds")
    assert await replay_episode(episode) == []
    in_time = await episode_of(EnvSpec(id=echo_spec.id, kwargs={"budget": {"seconds": 60}}))
    in_time.turns[0].seconds = 1000.0  # a slow machine is no difference
    assert await replay_episode(in_time) == []


async def test_the_clock_of_an_environment_is_given_back(echo_spec: EnvSpec) -> None:
    env = echo_spec.make()
    await replay_episode(await episode_of(echo_spec), env)
    assert env.clock is time.monotonic


async def test_a_fault_has_nothing_to_replay(echo_spec: EnvSpec) -> None:
    assert await replay_episode(replace(await episode_of(echo_spec), status=Status.FAULT)) == []
