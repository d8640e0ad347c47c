"""Requests: limits, seeds, queueing, cancellation, failures, event loops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from forethought.agents.engine import FinishReason, Sample, SamplingParams
from forethought.agents.engines.torch_engine import TorchEngine
from forethought.sandboxes import InfrastructureFault


async def test_a_stop_token_is_kept_and_ends_the_sample(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)
    free = await engine.sample([1, 2], SamplingParams(max_tokens=30, seed=5))
    assert free.finish_reason is FinishReason.LENGTH and len(free.token_ids) == len(free.logprobs) == 30
    stop = free.token_ids[7]
    cut = await engine.sample([1, 2], SamplingParams(max_tokens=30, seed=5, stop_token_ids=(299, stop)))
    assert cut.finish_reason is FinishReason.STOP
    assert cut.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]


async def test_the_context_limit_ends_the_sample(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2, context_limit=20)
    sample = await engine.sample([1] * 15, SamplingParams(max_tokens=100, seed=0))
    assert len(sample.token_ids) == 5 and sample.finish_reason is FinishReason.LENGTH
    assert len((await engine.sample([1] * 19, SamplingParams(seed=0))).token_ids) == 1


@pytest.mark.parametrize("prompt", [[], [1] * 20, [300], [-1]])
async def test_bad_prompts(model: Any, prompt: list[int]) -> None:
    engine = TorchEngine(model, max_slots=2, context_limit=20)
    with pytest.raises(ValueError, match="prompt"):
        await engine.sample(prompt, SamplingParams())


@pytest.mark.parametrize("bad", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}])
async def test_bad_params(model: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Sampling needs"):
        await TorchEngine(model, max_slots=1).sample([1], SamplingParams(**bad))


def test_bad_models(model: Any) -> None:
    with pytest.raises(ValueError, match="Linear"):
        TorchEngine(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="exceeds the 256 positions"):
        TorchEngine(model, context_limit=257)


async def test_a_seed_gives_the_same_tokens_in_any_company(model: Any) -> None:
    engine = TorchEngine(model, max_slots=8)
    mixed = [
        SamplingParams(max_tokens=25, seed=1),
        SamplingParams(max_tokens=25, seed=2, temperature=0.8, top_p=0.9),
        SamplingParams(max_tokens=25, seed=3, top_k=5),
        SamplingParams(max_tokens=25, temperature=0),
    ]
    alone = [await engine.sample([9, 9, 9], params) for params in mixed]
    many = await asyncio.gather(*(engine.sample([9, 9, 9], params) for params in mixed * 5))
    for index, sample in enumerate(many):
        assert sample.token_ids == alone[index % 4].token_ids
    unseeded = [await engine.sample([9, 9, 9], SamplingParams(max_tokens=25)) for _ in range(2)]
    assert unseeded[0].token_ids != unseeded[1].token_ids


async def test_more_requests_than_slots_are_served_in_order(model: Any) -> None:
    engine = TorchEngine(model, max_slots=3)
    order: list[int] = []

    async def one(number: int) -> None:
        await engine.sample([number], SamplingParams(max_tokens=4, seed=number))
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert order == sorted(order)
    assert engine.stats.mean_batch > 2


async def test_thousands_of_tasks(model: Any) -> None:
    engine = TorchEngine(model, max_slots=64, context_limit=32)
    params = SamplingParams(max_tokens=2)
    samples = await asyncio.gather(*(engine.sample([n % 300], params) for n in range(2000)))
    assert all(len(sample.token_ids) == 2 for sample in samples)


async def test_other_tasks_run_between_steps(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)
    task = asyncio.create_task(engine.sample([1], SamplingParams(max_tokens=50)))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0)
        ticks += 1
    assert ticks >= 50


async def test_requests_join_a_running_batch(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)
    long = asyncio.create_task(engine.sample([1], SamplingParams(max_tokens=100, seed=0)))
    while engine.stats.steps < 5:
        await asyncio.sleep(0)
    await engine.sample([2], SamplingParams(max_tokens=3))
    assert not long.done()
    assert len((await long).token_ids) == 100


async def test_cancelling_frees_the_slot_and_the_place_in_the_queue(model: Any) -> None:
    engine = TorchEngine(model, max_slots=1)
    first = asyncio.create_task(engine.sample([1], SamplingParams(max_tokens=200)))
    second = asyncio.create_task(engine.sample([2], SamplingParams(max_tokens=200)))
    while engine.stats.steps < 3:
        await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    sample = await engine.sample([3], SamplingParams(max_tokens=3))
    assert len(sample.token_ids) == 3
    assert first.cancelled() and second.cancelled()
    assert engine.stats.steps < 20


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
async def test_a_failing_step_reaches_everyone_and_the_engine_goes_on(
    make_model: Callable[[str], Any], name: str
) -> None:
    model = make_model(name)
    engine = TorchEngine(model, max_slots=2)
    good = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(engine.sample([n], SamplingParams()) for n in range(5)), return_exceptions=True), 10
    )
    assert all(isinstance(outcome, InfrastructureFault) for outcome in outcomes)
    assert "not finite" in str(outcomes[0])
    with torch.no_grad():
        model.lm_head.weight.copy_(good)
    assert len((await engine.sample([1], SamplingParams(max_tokens=3))).token_ids) == 3


def test_one_event_loop_after_another(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)

    async def some() -> list[Sample]:
        params = SamplingParams(max_tokens=5, seed=1)
        return await asyncio.gather(*(engine.sample([n], params, session=str(n)) for n in range(4)))

    async def left_in_the_middle() -> None:
        tasks = [asyncio.create_task(engine.sample([n], SamplingParams(max_tokens=200))) for n in range(4)]
        while engine.stats.steps % 10 != 9:
            await asyncio.sleep(0)
        del tasks

    before = asyncio.run(some())
    asyncio.run(left_in_the_middle())
    assert asyncio.run(some()) == before


async def test_close(model: Any) -> None:
    engine = TorchEngine(model, max_slots=1)
    waiting = [asyncio.create_task(engine.sample([n], SamplingParams(max_tokens=200))) for n in range(3)]
    while engine.stats.steps < 3:
        await asyncio.sleep(0)
    await engine.close()
    await engine.close()
    engine.release("unknown")
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, InfrastructureFault) for outcome in outcomes)
    with pytest.raises(InfrastructureFault, match="closed"):
        await engine.sample([1], SamplingParams())


async def test_sessions_are_reused_released_and_evicted(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)
    one = SamplingParams(max_tokens=1, seed=0)
    prompt = list(range(20))
    await engine.sample(prompt, one, session="a")
    await engine.sample(prompt, one, session="a")
    assert engine.stats.reused_tokens == 19
    await engine.sample(prompt[:10], one, session="a")
    assert engine.stats.reused_tokens == 28
    engine.release("a")
    await engine.sample(prompt, one, session="a")
    assert engine.stats.reused_tokens == 28 and engine.stats.evicted_sessions == 0
    await engine.sample(prompt, one, session="b")
    await engine.sample(prompt, one, session="c")
    assert engine.stats.evicted_sessions == 1
    await engine.sample(prompt, one, session="b")
    assert engine.stats.reused_tokens == 47
    await engine.sample(prompt, one, session="a")
    assert engine.stats.reused_tokens == 47


async def test_two_branches_of_one_session_at_once(model: Any) -> None:
    engine = TorchEngine(model, max_slots=4)
    params = [SamplingParams(max_tokens=10, seed=seed) for seed in (0, 1)]
    together = await asyncio.gather(*(engine.sample([1, 2, 3], p, session="s") for p in params))
    alone = [await engine.sample([1, 2, 3], p) for p in params]
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]


async def test_returning_sessions_go_before_new_ones(model: Any) -> None:
    engine = TorchEngine(model, max_slots=4)

    async def episode(number: int) -> None:
        prompt = [number] * 10
        for turn in range(4):
            sample = await engine.sample(prompt, SamplingParams(max_tokens=5, seed=turn), session=str(number))
            prompt = [*prompt, *sample.token_ids, 7]
        engine.release(str(number))

    await asyncio.gather(*(episode(number) for number in range(16)))
    assert engine.stats.evicted_sessions == 0
    assert engine.stats.prefilled_tokens == 16 * (9 + 3 * 1)


async def test_a_model_that_grew_new_parameters_needs_a_new_engine(model: Any) -> None:
    engine = TorchEngine(model, max_slots=1)
    model.model.layers[0].adapter = torch.nn.Linear(2, 2)
    with pytest.raises(InfrastructureFault, match="make a new engine"):
        await engine.sample([1], SamplingParams())


@pytest.mark.parametrize("slots", [64, 5])
async def test_what_prompts_have_in_common_is_read_once(model: Any, slots: int) -> None:
    generator = random.Random(3)

    def tokens(count: int) -> list[int]:
        return [generator.randrange(20) for _ in range(count)]

    instructions = tokens(30)
    prompts = [tokens(40)] * 6 + [[*instructions, *tokens(generator.randrange(1, 9))] for _ in range(6)]
    prompts += [prompts[0][:17], prompts[0][:12], tokens(3)]
    generator.shuffle(prompts)
    params = [SamplingParams(max_tokens=8, seed=seed) for seed in range(len(prompts))]
    engine = TorchEngine(model, max_slots=slots)
    together = await asyncio.gather(*(engine.sample(p, q) for p, q in zip(prompts, params, strict=True)))
    for prompt, param, sample in zip(prompts, params, together, strict=True):
        alone = await TorchEngine(model, max_slots=1).sample(prompt, param)
        assert sample.token_ids == alone.token_ids
        assert sample.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    stats = engine.stats
    assert stats.prefilled_tokens + stats.copied_tokens == sum(len(prompt) - 1 for prompt in prompts)
    if slots == 64:
        assert stats.copied_tokens == 5 * 39 + 5 * 30
    else:
        assert stats.copied_tokens > 0


async def test_sharing_between_sessions_keeps_them_apart(model: Any) -> None:
    engine = TorchEngine(model, max_slots=8)
    prompt = list(range(20))
    firsts = await asyncio.gather(
        *(engine.sample(prompt, SamplingParams(max_tokens=4, seed=i), session=str(i)) for i in range(6))
    )
    longer = [[*prompt, *sample.token_ids, i] for i, sample in enumerate(firsts)]
    seconds = await asyncio.gather(
        *(engine.sample(p, SamplingParams(max_tokens=4, seed=9), session=str(i)) for i, p in enumerate(longer))
    )
    for context, sample in zip(longer, seconds, strict=True):
        alone = await TorchEngine(model, max_slots=1).sample(context, SamplingParams(max_tokens=4, seed=9))
        assert sample.token_ids == alone.token_ids
    assert engine.stats.copied_tokens == 5 * 19
