"""What the scripted policies earn; the strategy that they show is in `tests/agents/evaluation/test_strategy.py`."""

from collections import Counter
from typing import Any

import pytest

from forethought.envs.detour import DetourEnv
from forethought.envs.detour.scripts import Script, careless, naive, oracle


def play(script: Any, count: int = 200, **options: Any) -> list[tuple[DetourEnv, list[str], dict[str, Any]]]:
    """Environment at the end, turns and last info of each episode."""
    played = []
    for seed in range(count):
        env = DetourEnv(**options)
        env.reset(seed=seed)
        running: Script = script(env)
        turns = [next(running)]
        while True:
            observation, _, ended, cut, info = env.step(turns[-1])
            if ended or cut:
                break
            turns.append(running.send(observation))
        played.append((env, turns, info))
    return played


def mean(played: list[tuple[DetourEnv, list[str], dict[str, Any]]], score: str) -> float:
    return sum(float(info["scores"][score]) for _, _, info in played) / len(played)


@pytest.mark.parametrize("mode", ["plan", "think", "bare"])
@pytest.mark.parametrize("options", [{"broken": 0.6}, {"broken": 1.0, "failures": 2, "routes": (3, 3)}])
def test_the_oracle_earns_everything_with_the_calls_that_are_its_difficulty(mode: str, options: dict[str, Any]) -> None:
    for env, _, info in play(oracle, 50, mode=mode, **options):
        assert info["scores"] == {"correct": 1.0, "efficient": 1.0}
        assert info["usage"]["tool_calls"] == env.task.difficulty


def test_the_oracle_plans_once_more_for_each_contradiction() -> None:
    for env, turns, info in play(oracle, 50, broken=1.0, failures=2, routes=(3, 3), broken_first=True):
        assert sum("<plan>" in turn for turn in turns) == 3
        assert info["usage"]["failed_calls"] == 2 - len(env.task.metadata["contradictions"])


def test_the_naive_policy_is_right_where_its_route_is_sound_and_only_there() -> None:
    for env, turns, info in play(naive, broken=0.6):
        assert info["scores"]["correct"] == (0 not in env.task.metadata["broken"])
        assert sum("<plan>" in turn for turn in turns) == 1


def test_the_naive_policy_gives_up_or_repeats_until_that_is_a_loop() -> None:
    holes = [
        (turns, info) for env, turns, info in play(naive, broken=1.0, traps=0.0) if env.task.metadata["broken"] == [0]
    ]
    ends = Counter(info["stop_reason"] for _, info in holes)
    assert 0.3 < ends["answered"] / len(holes) < 0.7
    for turns, info in holes:
        assert info["stop_reason"] == ("answered" if "nil" in turns[-1] else "loop")


def test_the_careless_policy_has_the_skills_but_wastes_calls_and_gives_up() -> None:
    sound = play(careless, broken=0.0)
    assert mean(sound, "correct") == 1.0
    assert 0.9 < mean(sound, "efficient") < 0.98
    holes = play(careless, broken=1.0, traps=0.0)
    assert mean(holes, "correct") < 0.8
    ends = Counter(turns[-1] for _, turns, _ in holes)
    assert ends["<answer> nil </answer>"] > 20


@pytest.mark.parametrize("script", [oracle, naive, careless])
@pytest.mark.parametrize("kind", [{"mode": "think"}, {"mode": "bare"}, {"spelling": "json"}])
def test_every_script_speaks_every_mode_and_spelling(script: Any, kind: dict[str, str]) -> None:
    for _, _, info in play(script, 30, broken=1.0, **kind):
        assert info["usage"]["format_errors"] == 0
        assert info["stop_reason"] != "turns"
