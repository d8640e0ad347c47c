from typing import Any

import pytest

from forethought.envs import ToolEnv
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.detour import DetourEnv
from forethought.envs.detour.scripts import oracle
from forethought.envs.protocol import Call


class TestDetourInWords(EnvConformance):
    def make(self, **kwargs: Any) -> ToolEnv:
        return DetourEnv(**{"broken": 0.6, **kwargs})

    def solve(self, env: ToolEnv) -> Script:
        return oracle(env)

    def naive_answers(self, env: ToolEnv) -> list[str]:
        start = str(env.task.metadata["start"])
        return [*super().naive_answers(env), start, "nil", f"{env.task.answer} {start}"]


class TestDetourInJson(TestDetourInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return DetourEnv(**{"broken": 1.0, "spelling": "json", **kwargs})


class TestThinkingDetour(TestDetourInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return DetourEnv(**{"broken": 0.6, "mode": "think", **kwargs})


class TestBareDetour(TestDetourInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return DetourEnv(**{"broken": 1.0, "mode": "bare", **kwargs})


def first_broken(**options: Any) -> DetourEnv:
    """An episode of a task with a broken route."""
    env = DetourEnv(**{"broken": 1.0, **options})
    env.reset(seed=0)
    return env


def look_up(env: DetourEnv, relation: str, *entity: str) -> str:
    """What the policy reads."""
    plan = ["R0"] if env.plan is None else None
    observation = env.step(env.codec.write_turn(plan=plan, calls=[Call("look_up", (relation, *entity))]))[0]
    return observation.removeprefix("<tool_response> ").removesuffix(" </tool_response>")


def walk(env: DetourEnv, number: int) -> list[str]:
    """What the look-ups of a route give, up to a hole."""
    world = env.task.metadata
    entity, seen = world["start"], []
    for relation in world["routes"][number]:
        seen.append(look_up(env, relation, entity))
        if seen[-1].startswith("Error"):
            break
        entity = seen[-1].split()[0]
    return seen


def test_a_hole_gives_nil_and_is_a_failed_call() -> None:
    env = first_broken(traps=0.0)
    (number,) = env.task.metadata["broken"]
    assert walk(env, number)[-1] == "Error: nil"
    assert env.step(env.codec.write_turn(answer="nil"))[4]["usage"]["failed_calls"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_trap_breaks_one_promise_and_leads_on_to_a_wrong_end(seed: int) -> None:
    env = first_broken(traps=1.0, hops=(2, 4))
    env.reset(seed=seed)
    world = env.task.metadata
    (number,) = world["broken"]
    route, seen = world["routes"][number], walk(env, number)
    assert len(seen) == len(route)
    kept = [s.split()[1] == world["promises"][r] for r, s in zip(route, seen, strict=True)]
    assert kept.count(False) == 1
    assert seen[-1].split()[0] != env.task.answer
    (mark,) = world["contradictions"]
    at = kept.index(False)
    assert mark == {"name": "look_up", "arguments": {"relation": route[at]}, "output": seen[at]}


def test_without_an_entity_the_look_up_goes_on_from_the_last_one_found() -> None:
    env = first_broken(broken=0.0, hops=(3, 3))
    route = env.task.metadata["routes"][0]
    found = [look_up(env, relation).split()[0] for relation in route]
    assert found[-1] == env.task.answer
    assert look_up(env, route[0], env.task.metadata["start"]).split()[0] == found[0]


def test_what_is_not_in_the_world_leads_nowhere() -> None:
    env = first_broken()
    route = env.task.metadata["routes"][0]
    unknown = next(f"R{i}" for i in range(26) if f"R{i}" not in env.task.metadata["promises"])
    assert look_up(env, unknown) == look_up(env, route[0], "E99") == "Error: nil"


def test_off_the_routes_a_relation_is_a_partial_function_that_keeps_its_promise() -> None:
    env = first_broken(budget={"turns": 1000})
    world = env.task.metadata
    type_of = {name: t for t, members in world["types"].items() for name in members}
    found = []
    for relation, promise in world["promises"].items():
        for entity in sorted(type_of.keys() - world["edges"].get(relation, {}).keys()):
            found.append(look_up(env, relation, entity))
            assert found[-1] == "Error: nil" or found[-1].split()[1] == promise
            assert found[-1] == look_up(env, relation, entity)
    assert 0.3 < found.count("Error: nil") / len(found) < 0.7


def test_look_ups_that_the_oracle_does_without_cost_five_per_cent_each() -> None:
    env = first_broken(broken=0.0, hops=(2, 2))
    route = env.task.metadata["routes"][0]
    entity = look_up(env, route[0]).split()[0]
    for _ in range(2):
        look_up(env, route[1], entity)
    _, reward, _, _, info = env.step(f"<answer> {env.task.answer} </answer>")
    assert info["scores"] == {"correct": 1.0, "efficient": pytest.approx(0.95)}
    assert reward == pytest.approx(0.95)
    assert DetourEnv(score_weights={"correct": 1.0}).weights == {"correct": 1.0}


def test_models_that_were_not_trained_on_it_are_told_the_rules() -> None:
    env = DetourEnv(spelling="json")
    prompt, _ = env.reset(seed=0)
    assert prompt.endswith(env.task.prompt) and "Answer with its name" in prompt


def test_every_word_of_an_episode_is_in_the_vocabulary() -> None:
    env = DetourEnv(broken=0.6, hops=(5, 8))
    known = {*env.vocabulary(), "|", "(", ")", "after"}
    for seed in range(20):
        prompt, _ = env.reset(seed=seed)
        script, words = oracle(env), prompt.split()
        turn = next(script)
        for _ in range(100):
            observation, _, ended, _, _ = env.step(turn)
            words += [*turn.split(), *observation.split()]
            if ended:
                break
            turn = script.send(observation)
        assert {word for word in words if not word.startswith("<")} <= known
