"""The conformance tests must fail for environments that break the contract."""

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from forethought.envs import Task, ToolEnv
from forethought.envs.conformance import EnvConformance, Script

TASKS = [Task(id=f"t{i}", prompt=f"say {i}", answer=str(i)) for i in range(5)]


class Sound(ToolEnv):
    score_weights: ClassVar[Mapping[str, float]] = {"correct": 1.0}

    def __init__(self, **options: Any) -> None:
        super().__init__(TASKS, **options)

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer)}


class GlobalRandomness(Sound):
    def task_prompt(self) -> str:
        return f"{super().task_prompt()} {random.random()}"


class StateThatSurvivesReset(Sound):
    episodes = 0

    def begin(self) -> None:
        self.episodes += 1

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == self.task.answer), "episodes": float(self.episodes)}


class RaisesForGarbage(Sound):
    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(int(answer or "0") == int(self.task.answer or "0"))}


class PaysEveryAnswer(Sound):
    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": 1.0}


class PaysNoAnswer(Sound):
    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": 0.0}


class NoScores(Sound):
    def score(self, answer: str | None) -> dict[str, float]:
        return {}


class InfiniteScore(Sound):
    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float("nan")}


class StepsForEver(Sound):
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._done = False
        return super().step(action)


class SharedState(Sound):
    visited: ClassVar[list[str]] = []

    def begin(self) -> None:
        self.visited.append(self.task.id)

    def task_prompt(self) -> str:
        return f"{super().task_prompt()} {len(self.visited)}"


def conformance(env: Callable[..., ToolEnv]) -> EnvConformance:
    class Suite(EnvConformance):
        def make(self, **kwargs: Any) -> ToolEnv:
            return env(**kwargs)

        def solve(self, env: ToolEnv) -> Script:
            yield env.codec.write_turn(plan=["say it"], answer=env.task.answer)

    return Suite()


def failures(env: Callable[..., ToolEnv]) -> set[str]:
    suite, failed = conformance(env), set()
    for name in [name for name in dir(suite) if name.startswith("test_") and "async_vector" not in name]:
        try:
            getattr(suite, name)()
        except Exception:
            failed.add(name)
    return failed


def test_a_sound_environment_passes() -> None:
    assert failures(Sound) == set()


@pytest.mark.parametrize(
    ("env", "test"),
    [
        (GlobalRandomness, "test_same_turns_give_the_same_episode"),
        (StateThatSurvivesReset, "test_an_instance_is_as_good_as_new_after_reset"),
        (RaisesForGarbage, "test_garbage_is_answered_by_an_observation"),
        (PaysEveryAnswer, "test_a_naive_answer_does_not_earn_it"),
        (PaysNoAnswer, "test_the_solution_earns_its_reward"),
        (NoScores, "test_the_solution_earns_its_reward"),
        (InfiniteScore, "test_the_solution_earns_its_reward"),
        (StepsForEver, "test_a_step_without_an_episode_asks_for_reset"),
        (SharedState, "test_same_turns_give_the_same_episode"),
    ],
)
def test_a_broken_environment_is_caught(env: Callable[..., ToolEnv], test: str) -> None:
    with pytest.raises(Exception):  # noqa: B017
        getattr(conformance(env), test)()
