from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import EpisodeWriter, ScriptedAgent
from forethought.agents.agent import ModelAgent
from forethought.agents.context_format import PlainFormat
from forethought.agents.engine import FinishReason, Sample, SamplingParams
from forethought.agents.env_spec import EnvSpec
from forethought.agents.plans import (
    PlanDraft,
    PlanError,
    decomposition_drafts,
    episode_drafts,
    find_problems,
    first_plan,
    model_drafts,
    read_drafts,
    script_drafts,
    write_drafts,
)
from forethought.agents.rollout import EpisodeRequest, rollout_episode
from forethought.agents.tokenizers import ByteTokenizer
from forethought.envs.json_schema import first_violation, published_validator
from forethought.envs.pointer.scripts import oracle
from forethought.envs.tool_env import ToolEnv

DATA = Path(os.environ.get("FORETHOUGHT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
SPEC = EnvSpec(id="forethought/Pointer-v0")
PLAN = "<plan>\n1. look it up\n2. answer (after 1)\n</plan>\n<think>\nhm\n</think>\n<answer>A</answer>"


def valid(drafts: list[PlanDraft]) -> bool:
    validator = published_validator("plan-draft", "forethought.agents")
    return all(first_violation(validator, json.loads(json.dumps(draft.to_row()))) is None for draft in drafts)


def never(name: str, reason: str) -> None:
    raise AssertionError(f"{name}: {reason}")


def test_a_script_is_asked_for_its_first_plan() -> None:
    drafts = list(script_drafts("m:oracle", oracle, SPEC, tasks=3, seed=0, skipped=never))
    assert len({draft.id for draft in drafts}) == 3 and valid(drafts)
    first = drafts[0]
    assert first.steps and first.provenance.author == "oracle" and first.provenance.original.startswith("<plan>")
    assert first.messages == [{"role": "user", "content": first.task["prompt"]}]
    assert first.provenance.env == {"id": SPEC.id, "version": "1", "kwargs": {}}


def test_scripts_without_a_plan_are_told_of() -> None:
    def silent(env: ToolEnv) -> Generator[str, str, None]:
        yield env.codec.write_turn(answer="A")

    def hollow(env: ToolEnv) -> Generator[str, str, None]:
        yield "<plan> 1. look 2. ( after 1 ) </plan> <answer> A </answer>"

    told: list[str] = []
    assert list(script_drafts("m:h", hollow, SPEC, tasks=1, seed=0, skipped=lambda i, why: told.append(why))) == []
    assert told.pop() == "a step of its plan is empty"
    assert list(script_drafts("m:s", silent, SPEC, tasks=2, seed=0, skipped=lambda i, why: told.append(why))) == []
    assert told == ["its first turn does not open with a plan"] * 2
    with pytest.raises(PlanError, match="mode 'bare'"):
        bare = EnvSpec(id=SPEC.id, kwargs={"mode": "bare"})
        list(script_drafts("m:s", silent, bare, tasks=1, seed=0, skipped=never))


async def test_the_episodes_of_a_run_give_their_first_plans(tmp_path: Path) -> None:
    env = SPEC.make()
    with EpisodeWriter(tmp_path / "run") as writer:
        for i in range(2):
            request = EpisodeRequest(task=env.tasks[i], seed=i)
            writer.append(await rollout_episode(env, SPEC, ScriptedAgent(oracle), request))
    drafts = list(episode_drafts(tmp_path / "run", right_only=True, skipped=never))
    scripted = list(script_drafts("m:oracle", oracle, SPEC, tasks=2, seed=0, skipped=never))
    assert [d.steps for d in drafts] == [d.steps for d in scripted] and valid(drafts)
    assert [d.provenance.original for d in drafts] == [d.provenance.original for d in scripted]
    assert [d.messages for d in drafts] == [d.messages for d in scripted]


async def test_a_model_is_asked_for_plans_that_differ(tmp_path: Path) -> None:
    spec = EnvSpec(id=SPEC.id, kwargs={"spelling": "json"})

    class Engine:
        context_limit = 1 << 20
        asked = 0

        async def sample(self, prompt_ids: Any, params: SamplingParams, *, session: str | None = None) -> Sample:
            self.asked += 1
            text = PLAN.replace("look", f"look {self.asked % 3}") if self.asked % 4 else "no plan"
            ids = [*ByteTokenizer().encode(text), ByteTokenizer.eos]
            return Sample(ids, [0.0] * len(ids), FinishReason.STOP)

        def release(self, session: str) -> None: ...

        async def close(self) -> None: ...

    engine = Engine()
    agent = ModelAgent(engine=engine, format=PlainFormat(ByteTokenizer()), name="fake")
    args: dict[str, Any] = {"tasks": 2, "plans": 2, "seed": 0, "folder": tmp_path, "skipped": never}
    drafts = await model_drafts("fake", agent, spec, **args)
    assert len(drafts) == 4 and valid(drafts) and len({d.id for d in drafts}) == 4
    assert all([s["after"] for s in d.steps] == [[], [1]] for d in drafts)
    assert all(d.messages[0]["role"] == "system" and "<plan>" in d.messages[0]["content"] for d in drafts)
    asked = engine.asked
    again = await model_drafts("fake", agent, spec, **args)
    assert engine.asked == asked and [d.steps for d in again] == [d.steps for d in drafts]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (PLAN, "\n<think>\nhm\n</think>\n<answer>A</answer>"),
        (PLAN[: PLAN.index("<think>")], "\n"),
        ("<think>x</think>", None),
    ],
)
def test_the_plan_of_a_turn_is_found_whatever_follows(text: str, rest: str | None) -> None:
    found = first_plan(text, "json")
    assert (found[1] if found else None) == rest


def write_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_strategy_qa_becomes_plans(tmp_path: Path) -> None:
    row = {
        "qid": "a", "term": "t", "question": "Is A larger?", "answer": False, "facts": ["A is 1."],
        "decomposition": ["How large is A?", "Is #1 larger?"],
    }  # fmt: skip
    (draft,) = decomposition_drafts(write_json(tmp_path / "s.json", [row]), instructions="Plan!")
    assert valid([draft]) and draft.task["answer"] == "no" and draft.provenance.kind == "human"
    assert draft.steps[1] == {"number": 2, "text": "Is #1 larger?", "after": [1]}
    assert draft.messages[0] == {"role": "system", "content": "Plan!"}
    assert draft.provenance.original == "How large is A?\nIs #1 larger?"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "?", "answer": "!"}], 'line 1: expected a row with "decomposition"'),
        ([{"qid": "a", "question": "?", "decomposition": "x"}], 'line 1: expected "decomposition" to be a list'),
        ([{"qid": "a", "question": "?", "decomposition": [1]}], "list of texts"),
        ([{"decomposition": ["x"]}], 'expected "qid"'),
    ],
)
def test_a_file_without_decompositions_is_refused(tmp_path: Path, rows: Any, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        list(decomposition_drafts(write_json(tmp_path / "s.json", rows)))


@pytest.mark.parametrize(("name", "count"), [("strategyqa_train.json", 2061), ("musique_train.json", 100)])
def test_the_real_decompositions(tmp_path: Path, name: str, count: int) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"needs {DATA / name}")
    drafts = list(decomposition_drafts(DATA / name))
    assert len(drafts) == count and valid(drafts[:50])
    assert write_drafts(tmp_path, drafts[:50]) == (50, 0) and len(read_drafts(tmp_path)[0]) == 50
    wrong = [draft.id for draft in drafts if find_problems(draft.steps)]
    assert len(wrong) <= count // 100, wrong
    if name.startswith("musique"):
        assert all(any(step["after"] for step in draft.steps) for draft in drafts)
