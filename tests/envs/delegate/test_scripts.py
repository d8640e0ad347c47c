"""Delegating, reading alone and guessing, in windows that the document does not fit."""

import os
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import ContextWindow, EnvSpec, Episode, EpisodeRequest, ScriptedAgent, SegmentKind
from forethought.agents.interventions import SwapAnswers
from forethought.agents.replay import replay_episode
from forethought.agents.rollouts import collect_rollouts
from forethought.agents.tree import critical_path
from forethought.envs import Task, TaskError
from forethought.envs.delegate.scripts import map_reduce, peek, serial

DATA = Path(os.environ.get("FORETHOUGHT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
LIMIT = 20_000
"""Bytes, of which scripts sample one at a time: about 4,000 tokens of a language model."""


async def roll_out(
    script: Any, data: dict[str, Any], window: ContextWindow | None = None, *, count: int = 4, **options: Any
) -> list[Episode]:
    spec = EnvSpec(id="forethought/Delegate-v0", kwargs=data | {"words": 8000, "budget": None} | options)
    requests = [EpisodeRequest(task=task, seed=1) for task in spec.make().tasks.head(count)]
    agent = ScriptedAgent(script, window=window or ContextWindow(limit=LIMIT))
    return await collect_rollouts(requests, spec, agent)


async def test_sub_models_read_what_does_not_fit(data: dict[str, Any]) -> None:
    for episode in await roll_out(map_reduce, data):
        assert episode.scores == {"correct": 1.0, "f1": 1.0, "evidence": 1.0, "coverage": 1.0, "read_share": 0.0}
        assert [segment.parent and segment.parent[0] for segment in episode.segments] == [None] + [0] * 6
        assert len(episode.turns[0].calls) == 6, "all in one turn"
        quoted = sorted(call.output for call in episode.turns[0].calls if call.output != "nothing")
        assert len(quoted) == 2 and any("It was directed by" in text and "old" not in text for text in quoted)
        assert max(len(segment.token_ids) for segment in episode.segments) < LIMIT
        assert await replay_episode(episode) == []


async def test_sub_models_divide_again_where_parts_are_many(data: dict[str, Any]) -> None:
    for depth, asked, contexts in ((1, 10, 11), (2, 4, 17)):
        (episode,) = await roll_out(map_reduce, data, count=1, budget={"depth": depth}, words=14_000)
        assert episode.scores["correct"] == 1.0
        assert (len(episode.turns[0].calls), len(episode.segments)) == (asked, contexts)
        assert max(map(episode.depth_of, range(contexts))) == depth
        assert await replay_episode(episode) == []


async def test_width_is_kept_to(data: dict[str, Any]) -> None:
    (episode,) = await roll_out(map_reduce, data, count=1, budget={"width": 4, "turns": 9})
    assert episode.scores["correct"] == 1.0
    assert [len(turn.calls) for turn in episode.turns_of()] == [4, 2, 0]
    assert all(call.error is None for turn in episode.turns for call in turn.calls)


@pytest.mark.parametrize("options", [{"mode": "bare"}, {"mode": "think"}, {"spelling": "words"}])
async def test_it_keeps_to_mode_and_spelling(options: dict[str, Any], data: dict[str, Any]) -> None:
    for script in (map_reduce, serial, peek):
        (episode,) = await roll_out(script, data, ContextWindow(), count=1, words=4000, **options)
        assert [turn.error for turn in episode.turns] == [None] * len(episode.turns)
        assert episode.scores["correct"] == float(script is not peek)


async def test_what_a_sub_model_failed_to_read_is_not_known(data: dict[str, Any]) -> None:
    (episode,) = await roll_out(map_reduce, data, count=1, budget={"sub_calls": 1})
    assert episode.answer == "unknown" and episode.scores["coverage"] < 0.3
    (episode,) = await roll_out(map_reduce, data, ContextWindow(limit=6500), count=1)
    assert "gave no answer (context)" in episode.turns[0].observation and episode.scores["correct"] == 0.0


async def test_with_a_second_model_the_parts_still_go_to_the_policy_itself(data: dict[str, Any]) -> None:
    class Big:
        name = "big"

        async def answer(self, prompt: str) -> Any:
            raise AssertionError("it cannot read the document")

    spec = EnvSpec(id="forethought/Delegate-v0", kwargs=data | {"words": 4000, "sub_models": ["big", "self"]})
    request = EpisodeRequest(task=spec.make().tasks[0])
    (episode,) = await collect_rollouts([request], spec, ScriptedAgent(map_reduce, sub_models={"big": Big()}))
    assert episode.scores["correct"] == 1.0 and len(episode.segments) > 1


async def test_reading_alone_overflows_the_window(data: dict[str, Any]) -> None:
    for episode in await roll_out(serial, data):
        assert episode.stop_reason == "context" and episode.scores["correct"] == 0.0
        assert episode.scores["read_share"] == episode.scores["coverage"] < 0.5
        assert await replay_episode(episode) == []


async def test_reading_alone_takes_a_larger_window_or_summaries(data: dict[str, Any]) -> None:
    patient = {"budget": {"turns": None}}
    (wide,) = await roll_out(serial, data, ContextWindow(), count=1, **patient)
    learned = ContextWindow(limit=LIMIT, policy="learned", turn_tokens=500)
    (compressed,) = await roll_out(serial, data, learned, count=1, **patient)
    for episode in (wide, compressed):
        assert episode.scores["correct"] == episode.scores["coverage"] == episode.scores["read_share"] == 1.0
        assert await replay_episode(episode) == []
    kinds = [segment.kind for segment in compressed.segments]
    assert kinds == [SegmentKind.ROOT] + [SegmentKind.AFTER_SUMMARY] * (len(kinds) - 1) and len(kinds) > 2
    (delegated,) = await roll_out(map_reduce, data, count=1)
    assert critical_path(delegated).tokens < critical_path(compressed).tokens


async def test_without_sub_models_the_oracle_reads_alone(data: dict[str, Any]) -> None:
    (episode,) = await roll_out(map_reduce, data, count=1, sub_models=[])
    assert episode.stop_reason == "context" and len(episode.segments) == 1


async def test_a_short_document_is_not_handed_out(data: dict[str, Any]) -> None:
    (episode,) = await roll_out(map_reduce, data, count=1, words=1000)
    assert episode.scores["correct"] == episode.scores["read_share"] == 1.0 and len(episode.segments) == 1


async def test_guessing_from_the_beginning_fails(data: dict[str, Any]) -> None:
    for episode in await roll_out(peek, data):
        assert episode.status == "completed" and episode.scores["correct"] == 0.0
        assert episode.scores["coverage"] < 0.1


async def test_answers_of_other_tasks_do_not_help(data: dict[str, Any]) -> None:
    spec = EnvSpec(id="forethought/Delegate-v0", kwargs=data | {"words": 8000})
    requests = [EpisodeRequest(task=task) for task in spec.make().tasks]
    agent = ScriptedAgent(map_reduce, intervention=SwapAnswers())
    assert [e.reward for e in await collect_rollouts(requests, spec, agent)] == [0.0] * 4


async def test_a_task_that_does_not_name_its_support_has_no_oracle() -> None:
    spec = EnvSpec(id="forethought/Delegate-v0", kwargs={"tasks": [Task(id="t", prompt="?", metadata={})]})
    env = spec.make()
    env.reset(options={"task": {"id": "t", "prompt": "?", "metadata": {"documents": [{"text": "a"}]}}})
    with pytest.raises(TaskError, match="task 't' does not say which paragraphs support its answer"):
        next(map_reduce(env))


@pytest.mark.skipif(
    not (DATA / "musique_train.json").is_file(),
    reason=f"needs musique_train.json and hotpotqa_train.json in FORETHOUGHT_DATA ({DATA})",
)
@pytest.mark.parametrize("name", ["musique", "hotpotqa"])
async def test_real_questions(name: str) -> None:
    data = {"corpus": str(DATA / f"{name}_train_corpus.json"), "questions": str(DATA / f"{name}_train.json")}
    for episode in await roll_out(map_reduce, data, count=5, words=16_000):
        assert (episode.scores["correct"], episode.scores["evidence"], episode.scores["read_share"]) == (1.0, 1.0, 0.0)
        assert await replay_episode(episode) == []
    for episode in await roll_out(serial, data, count=5, words=16_000):
        assert episode.stop_reason == "context"
