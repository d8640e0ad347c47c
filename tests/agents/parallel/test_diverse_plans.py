from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from forethought.agents import (
    ByteTokenizer,
    EnvSpec,
    Episode,
    EpisodeStore,
    FinishReason,
    ModelAgent,
    PlainFormat,
    Sample,
    SamplingParams,
    Status,
    WordTokenizer,
    replay_episode,
)
from forethought.agents.evaluation import EvaluationError, ReportCard, evaluate
from forethought.agents.parallel import (
    STRATEGIES,
    MajorityVote,
    ParallelError,
    evaluate_diverse_plans,
    grade_parallel,
    plan_costs,
)
from forethought.agents.text_model import Prices
from forethought.sandboxes import InfrastructureFault

from .conftest import SPEC, TASKS, Guesser

FEW = TASKS.head(12)
Guess = Callable[..., ModelAgent]


async def evaluate_plans(folder: Path, agent: ModelAgent, **changes: Any) -> ReportCard:
    arguments = {"spec": SPEC, "tasks": FEW, "attempts": 4, "seed": 3, "folder": folder, "concurrency": 8}
    return await evaluate_diverse_plans(agent=agent, **{**arguments, **changes})


def plans_of(folder: Path) -> dict[str, list[str]]:
    """The first plan of each attempt, by task."""
    plans: dict[str, dict[int, str]] = {}
    for episode in EpisodeStore(folder):
        plans.setdefault(episode.task_id, {})[episode.attempt] = episode.plans[0].steps[0]["text"]
    return {task: [numbered[i] for i in sorted(numbered)] for task, numbered in plans.items()}


async def test_every_attempt_has_a_plan_of_its_own(tmp_path: Path, guesser: Guess) -> None:
    await evaluate(SPEC, guesser(0.6, plans=16), FEW, attempts=4, seed=3, folder=tmp_path / "ordinary")
    assert any(len(set(plans)) < 4 for plans in plans_of(tmp_path / "ordinary").values())
    card = await evaluate_plans(tmp_path / "diverse", guesser(0.6, plans=16))
    plans = plans_of(tmp_path / "diverse")
    assert len(plans) == 12 and all(len(set(attempts)) == 4 for attempts in plans.values())
    assert (card.tasks, card.attempts, card.faults) == (12, 4, 0)
    for episode in EpisodeStore(tmp_path / "diverse"):
        assert await replay_episode(episode) == []


async def test_the_plans_tokens_are_those_that_were_sampled(tmp_path: Path, guesser: Guess) -> None:
    agent = guesser(0.6)
    await evaluate_plans(tmp_path, agent)
    assert isinstance(agent.engine, Guesser)
    rows = [json.loads(line) for line in (tmp_path / "plans.jsonl").read_text().splitlines()]
    drafted = {row["task_id"]: row["plans"] for row in rows}
    for episode in EpisodeStore(tmp_path):
        segment, turn = episode.segments[0], episode.turns[0]
        plan = drafted[episode.task_id][episode.attempt % len(drafted[episode.task_id])]
        end = turn.start + len(plan["token_ids"])
        assert segment.token_ids[turn.start : end] == plan["token_ids"]
        assert segment.logprobs[turn.start : end] == pytest.approx(plan["logprobs"])
        # What came after it was sampled with the plan in sight.
        seen = "".join(agent.format.tokenizer.pieces(segment.token_ids[:end])).split()
        assert seen in agent.engine.prompts and seen[-1] == "</plan>"


async def test_a_policy_with_fewer_plans_than_attempts(tmp_path: Path, guesser: Guess) -> None:
    await evaluate_plans(tmp_path, guesser(0.6, plans=2))
    assert all(plans == [plans[0], plans[1]] * 2 and plans[0] != plans[1] for plans in plans_of(tmp_path).values())
    rows = [json.loads(line) for line in (tmp_path / "plans.jsonl").read_text().splitlines()]
    assert {row["candidates"] for row in rows} <= {8, 12}  # until a round of four brings nothing new


class Spelled:
    """Says one of a few turns, or what is missing of it, in bytes: the end of a plan is not one token."""

    context_limit = 10_000
    plans = ("1. Follow 2.", "1.  follow 2", "1. follow 3", "1. Follow 3", "no steps")

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        tokenizer = ByteTokenizer()
        prompt = "".join(tokenizer.pieces(prompt_ids)).rpartition("hops")[2]
        text = "\n<answer>A</answer>"
        if "</plan>" not in prompt:
            text = f"<plan>\n{Random(params.seed).choice(self.plans)}\n</plan>{text}"
        ids = [*tokenizer.encode(text), tokenizer.eos]
        return Sample(ids, [-0.5] * len(ids), FinishReason.STOP)

    def release(self, session: str) -> None: ...

    async def close(self) -> None: ...


async def test_plans_are_the_same_whose_steps_are_after_normalisation(tmp_path: Path) -> None:
    spec = EnvSpec(id=SPEC.id, kwargs={**SPEC.kwargs, "spelling": "json"})
    agent = ModelAgent(engine=Spelled(), format=PlainFormat(ByteTokenizer()), sampling=SamplingParams(max_tokens=500))
    await evaluate_plans(tmp_path, agent, spec=spec, attempts=6)
    for plans in plans_of(tmp_path).values():
        numbers = [plan.rstrip(".")[-1] for plan in plans]
        assert numbers in (["2", "3"] * 3, ["3", "2"] * 3)
    for episode in list(EpisodeStore(tmp_path))[:6]:
        assert episode.answer == "A" and await replay_episode(episode) == []


async def test_costs_count_what_was_thrown_away(tmp_path: Path, guesser: Guess) -> None:
    await evaluate_plans(tmp_path, guesser(0.6, plans=3))
    prices = Prices(input=1.0, output=2.0)
    costs = plan_costs(tmp_path, 4, prices)
    rows = {row["task_id"]: row for row in map(json.loads, (tmp_path / "plans.jsonl").read_text().splitlines())}
    card = grade_parallel(EpisodeStore(tmp_path), [MajorityVote()], prices=prices, extra={"": costs})
    for choice in card.choices["vote"]:
        row = rows[choice.task_id]
        rest = 0
        for episode in EpisodeStore(tmp_path):
            if episode.task_id == choice.task_id:
                rest += episode.sampled_tokens() - 5  # <plan> 1. follow 2 </plan>
        assert {len(plan["token_ids"]) for plan in row["plans"]} == {5}
        assert row["sampled_tokens"] == 5 * row["candidates"]
        assert choice.sampled_tokens == pytest.approx(rest + row["sampled_tokens"])


async def test_killed_in_the_middle_it_goes_on(tmp_path: Path, guesser: Guess) -> None:
    class Killed(Exception):
        pass

    def kill(episode: Episode) -> None:
        if len(list(EpisodeStore(tmp_path / "killed"))) == 17:
            raise Killed

    with pytest.raises(Killed):
        await evaluate_plans(tmp_path / "killed", guesser(0.6), on_episode=kill)
    plans = tmp_path / "killed" / "plans.jsonl"
    os.truncate(plans, plans.stat().st_size - 10)  # and the last line of the plans with it
    made: list[str] = []
    agent = guesser(0.6)
    card = await evaluate_plans(tmp_path / "killed", agent, on_episode=lambda episode: made.append(episode.id))
    assert len(made) == 48 - 17
    whole = await evaluate_plans(tmp_path / "whole", guesser(0.6))
    assert plans_of(tmp_path / "killed") == plans_of(tmp_path / "whole")
    assert (card.accuracy, card.tokens) == (whole.accuracy, whole.tokens)


async def test_a_folder_holds_one_evaluation(tmp_path: Path, guesser: Guess) -> None:
    await evaluate(SPEC, guesser(0.6), FEW, attempts=4, seed=3, folder=tmp_path)
    with pytest.raises(EvaluationError, match='agent is "model", now it is "model, different plans"'):
        await evaluate_plans(tmp_path, guesser(0.6))


async def test_faults(tmp_path: Path, guesser: Guess) -> None:
    agent = guesser(0.6)
    assert isinstance(agent.engine, Guesser)
    agent.engine.down_for = {FEW[0].prompt.split()[-3]}
    with pytest.raises(InfrastructureFault):
        await evaluate_plans(tmp_path, agent)
    agent.engine.down_for = set()

    def later(episode: Episode) -> None:
        assert isinstance(agent.engine, Guesser)
        agent.engine.down_for = {FEW[0].prompt.split()[-3]}

    card = await evaluate_plans(tmp_path, agent, on_episode=later)
    assert card.faults > 0
    graded = grade_parallel(EpisodeStore(tmp_path), [MajorityVote()])
    assert graded.faults == card.faults
    assert sum(choice.attempts for choice in graded.choices["vote"]) == 48 - card.faults
    agent.engine.down_for = set()
    assert (await evaluate_plans(tmp_path, agent)).faults == 0


async def test_turns_without_room_and_protocols_without_plans(tmp_path: Path, guesser: Guess) -> None:
    short = guesser(0.6)
    short.sampling = SamplingParams(max_tokens=3)
    card = await evaluate_plans(tmp_path / "short", short)
    assert card.accuracy.value == 0.0 and card.faults == 0
    bare = EnvSpec(id=SPEC.id, kwargs={**SPEC.kwargs, "mode": "bare"})
    with pytest.raises(ParallelError, match="mode 'bare' has no plans"):
        await evaluate_plans(tmp_path / "bare", guesser(0.6), spec=bare)


async def test_a_small_model(tmp_path: Path) -> None:
    """Any model, with its real engine: it never saw a plan, so its attempts are ordinary ones."""
    pytest.importorskip("transformers", reason="needs transformers: pip install forethought[train]")
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from forethought.agents.local_model import model_agent

    torch.manual_seed(0)
    words = WordTokenizer(SPEC.make().vocabulary())
    config = GPT2Config(vocab_size=len(words.words), n_embd=16, n_layer=1, n_head=2, n_positions=128)
    agent = model_agent(
        GPT2LMHeadModel(config).train(False), PlainFormat(words), sampling=SamplingParams(max_tokens=8), slots=8
    )  # fmt: skip
    await evaluate_plans(tmp_path, agent)
    episodes = list(EpisodeStore(tmp_path))
    assert len(episodes) == 48 and all(episode.status is not Status.FAULT for episode in episodes)
    for episode in episodes[:8]:
        assert await replay_episode(episode) == []
    card = grade_parallel(episodes, [make() for make in STRATEGIES.values()], extra={"": plan_costs(tmp_path, 4)})
    assert set(card.choices) == set(STRATEGIES) and card.tasks == 12
    await agent.engine.close()
