from typing import Any

import pytest

from forethought.envs import ToolEnv
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.fan_out import FanOutEnv
from forethought.envs.fan_out.scripts import serial
from forethought.envs.protocol import Call


class TestFanOutInWords(EnvConformance):
    def make(self, **kwargs: Any) -> ToolEnv:
        return FanOutEnv(**kwargs)

    def solve(self, env: ToolEnv) -> Script:
        return serial(env)


class TestFanOutInJson(TestFanOutInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return FanOutEnv(spelling="json", **kwargs)


class TestBareFanOutWithSubModels(TestFanOutInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return FanOutEnv(**({"mode": "bare", "sub_models": ["self"]} | kwargs))


def a_fan(**options: Any) -> FanOutEnv:
    env = FanOutEnv(mode="bare", kinds=["fan"], widths=(2, 2), **options)
    env.reset(seed=0)
    return env


def look_up(env: FanOutEnv, *questions: str) -> str:
    turn = env.codec.write_turn(calls=[Call("look_up", (question,)) for question in questions])
    return env.step(turn)[0]


def test_look_up_follows_one_relation() -> None:
    env = a_fan()
    first, second = env.task.metadata["parts"]
    for part, end in zip((first, second), (env.task.answer or "").split(), strict=True):
        entity = part[0]
        for relation in part[1:]:
            entity = look_up(env, f"{entity} {relation}").split()[1]
        assert entity == end


@pytest.mark.parametrize("question", ["E3", "E3 R1 R2", "E99 R1", "E1 R77", "R1 E3", "E3 R1 ?"])
def test_a_question_that_cannot_be_looked_up_is_told_what_was_expected(question: str) -> None:
    assert "expected an entity and a relation such as 'E3 R1', found" in look_up(a_fan(), question)


def test_scores_count_the_calls() -> None:
    env = a_fan()
    look_up(env, "E0 R0", "E0 R1", "E0 R1")
    look_up(env, "E0 R0")
    *_, info = env.step(env.codec.write_turn(answer=env.task.answer))
    assert info["scores"] == {
        "correct": 1.0, "cost": 0.0, "waiting": 24.0, "acceleration": 0.0, "calls": 4.0, "width": 3.0,
        "oracle_width": 2.0, "parallel": 0.75, "duplicates": 0.5,
    }  # fmt: skip


def test_scores_without_calls() -> None:
    env = a_fan()
    *_, info = env.step(env.codec.write_turn(answer="E0"))
    assert info["scores"] | {"oracle_width": 0.0} == dict.fromkeys(info["scores"], 0.0)


def test_the_order_of_the_answer_counts() -> None:
    env = a_fan()
    backwards = " ".join(reversed((env.task.answer or "").split()))
    assert backwards != env.task.answer
    _, reward, terminated, _, _ = env.step(env.codec.write_turn(answer=backwards))
    assert terminated and reward == 0.0


class TestBig:
    def play(self, ask: str, answer: str | None = None) -> tuple[str, float, dict[str, Any]]:
        env = a_fan(sub_models=["self", "big"], big_cost=3.0)
        call = Call("ask", (ask.format(" ".join(env.task.metadata["parts"][0])), "", "big"))
        observation, *_ = env.step(env.codec.write_turn(calls=[call]))
        _, reward, _, _, info = env.step(env.codec.write_turn(answer=answer or env.task.answer))
        return observation.split()[1], reward, info

    def test_it_answers_a_chain_for_a_price(self) -> None:
        env = a_fan()
        answer, reward, info = self.play("{}")
        assert answer == (env.task.answer or "").split()[0]
        assert info["usage"]["cost"] == info["scores"]["cost"] == 3.0
        assert reward == pytest.approx(1 - 0.01 * 3)

    def test_failing_costs_nothing(self) -> None:
        _, reward, info = self.play("{}", "E0")
        assert info["usage"]["cost"] == 3.0
        assert reward == info["scores"]["cost"] == 0.0

    @pytest.mark.parametrize("ask", ["E99 R1", "who?", "E1 R99"])
    def test_it_has_no_answer_to_anything_else(self, ask: str) -> None:
        assert self.play(ask)[0] == "Error:"
