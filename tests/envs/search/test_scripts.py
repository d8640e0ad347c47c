from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tantivy", reason="needs tantivy: pip install forethought[search]")

from forethought.agents import EnvSpec, Episode, ScriptedAgent, collect_rollouts
from forethought.agents.rollout import EpisodeRequest
from forethought.envs import Task, TaskError
from forethought.envs.search import content_id
from forethought.envs.search.scripts import gold_decomposition, search_once

PASSAGES = {
    "Aldo": "Aldo is a film directed by Ada Moss.",
    "Brim": "Brim is a novel written by Bob Lunt.",
    "Ada Moss": "Ada Moss was married to Cem Orhan.",
    "Meeting": "Cem Orhan met Bob Lunt in Oslo.",
}


def hop(question: str, answer: str, support: str) -> dict[str, str]:
    return {
        "question": question,
        "answer": answer,
        "support": support,
        "support_id": content_id(support, PASSAGES.get(support, "not in the corpus")),
    }


HOPS = [
    hop("Who directed the film Aldo?", "Ada Moss", "Aldo"),
    hop("Who wrote the novel Brim?", "Bob Lunt", "Brim"),
    hop("Who was #1\nmarried to?", "Cem Orhan", "Ada Moss"),
    hop("Where did #3 meet #2?", "Oslo", "Meeting"),
]


@pytest.fixture
def spec(tmp_path: Path) -> EnvSpec:
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"title": title, "text": text} for title, text in PASSAGES.items()]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return EnvSpec(id="forethought/Search-v0", kwargs={"corpus": str(corpus), "tasks": [task()]})


def task(hops: list[dict[str, str]] = HOPS) -> Task:
    metadata: dict[str, Any] = {"decomposition": hops, "supporting": [h["support_id"] for h in hops]}
    return Task(id="q", prompt="Where did they meet?", answer="Oslo", metadata=metadata)


async def play(spec: EnvSpec, script: Any, asked: Task, **kwargs: Any) -> Episode:
    spec = EnvSpec(id=spec.id, kwargs={**spec.kwargs, **kwargs})
    (episode,) = await collect_rollouts([EpisodeRequest(task=asked)], spec, ScriptedAgent(script))
    return episode


async def test_the_gold_plan_is_followed_in_parallel_where_it_can(spec: EnvSpec) -> None:
    episode = await play(spec, gold_decomposition, task())
    assert episode.scores == {"correct": 1.0, "f1": 1.0, "support": 1.0}
    assert [turn.error for turn in episode.turns] == [None] * len(episode.turns)
    (plan,) = episode.plans
    assert [(s["text"], s["after"]) for s in plan.steps] == [
        ("Who directed the film Aldo?", []),
        ("Who wrote the novel Brim?", []),
        ("Who was #1 married to?", [1]),
        ("Where did #3 meet #2?", [2, 3]),
    ]
    searches = [[c for c in turn.calls if c.name == "search"] for turn in episode.turns]
    assert [[(c.arguments["query"], c.step) for c in calls] for calls in searches if calls] == [
        [("Who directed the film Aldo?", 1), ("Who wrote the novel Brim?", 2)],
        [("Who was Ada Moss\nmarried to?", 3)],
        [("Where did Cem Orhan meet Bob Lunt?", 4)],
    ]
    assert all(call.error is None for turn in episode.turns for call in turn.calls)


@pytest.mark.parametrize("mode", ["think", "bare"])
async def test_it_keeps_to_the_mode(spec: EnvSpec, mode: str) -> None:
    episode = await play(spec, gold_decomposition, task(), mode=mode)
    assert episode.scores["correct"] == 1.0 and all(turn.error is None for turn in episode.turns)
    assert bool(episode.plans) == (mode == "think")
    naive = await play(spec, search_once, task(), mode=mode)
    assert naive.answer is not None and all(turn.error is None for turn in naive.turns)


async def test_it_answers_only_what_came_up(spec: EnvSpec) -> None:
    hops = [*HOPS[:3], hop("Where did #3 meet #2?", "Oslo", "Nowhere")]
    episode = await play(spec, gold_decomposition, task(hops))
    assert episode.answer == "unknown" and episode.scores["correct"] == 0.0 and episode.scores["support"] == 0.75


async def test_references_that_lead_nowhere_are_words(spec: EnvSpec) -> None:
    hops = [hop("Who directed #0 and #2 and #7, the film Aldo?", "Ada Moss", "Aldo"), HOPS[1]]
    episode = await play(spec, gold_decomposition, task(hops))
    assert episode.plans[0].steps[0]["after"] == [] and episode.turns[0].error is None


def test_questions_without_a_decomposition_are_refused(spec: EnvSpec) -> None:
    env = spec.make()
    cases: list[dict[str, Any]] = [{}, {"decomposition": []}]
    for metadata in cases:
        env.reset(options={"task": Task(id="plain", prompt="p", answer="a", metadata=metadata)})
        with pytest.raises(TaskError, match=r"'plain' has no decomposition .* needs MuSiQue questions"):
            next(gold_decomposition(env))


async def test_the_naive_policy_answers_a_title(spec: EnvSpec) -> None:
    asked = Task(id="n", prompt="Who is the director of the film Aldo?", answer="Aldo")
    assert (await play(spec, search_once, asked)).answer == "Aldo"
    assert (await play(spec, search_once, Task(id="n", prompt="zeppelin", answer="x"))).answer == "unknown"
