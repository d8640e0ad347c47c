"""The sampler's log-probability is the model's, whatever the batch, the cache and the weights went through."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from forethought.agents.engine import Sample, SamplingParams
from forethought.agents.engines.torch_engine import TorchEngine

Turn = tuple[list[int], Sample]


def error(model: Any, prompt: list[int], sample: Sample, temperature: float = 1.0) -> float:
    """Largest difference between the sample's log-probabilities and a plain forward pass of the model."""
    ids = torch.tensor([prompt + sample.token_ids])
    training = model.training
    model.eval()
    with torch.no_grad():
        logprobs = (model(ids).logits.float() / temperature).log_softmax(-1)[0]
    model.train(training)
    drawn = logprobs[torch.arange(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]]
    return float((drawn - torch.tensor(sample.logprobs)).abs().max())


async def conversation(engine: TorchEngine, number: int, turns: int = 3) -> list[Turn]:
    """Several turns of one session; every third one goes back on its last tokens before the third turn."""
    rng = random.Random(number)
    prompt = [rng.randrange(300) for _ in range(rng.randrange(1, 40))]
    said: list[Turn] = []
    for turn in range(turns):
        params = SamplingParams(max_tokens=rng.randrange(1, 20), seed=100 * number + turn)
        sample = await engine.sample(prompt, params, session=f"session {number}")
        said.append((prompt, sample))
        prompt = prompt + sample.token_ids + [rng.randrange(300) for _ in range(rng.randrange(4))]
        if turn == 1 and number % 3 == 0:
            prompt = [*prompt[:-3], 5, 6]
    return said


async def conversations(engine: TorchEngine, count: int = 12) -> list[Turn]:
    said = await asyncio.gather(*(conversation(engine, number) for number in range(count)))
    return [turn for turns in said for turn in turns]


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("llama", "FusedDecoder"),
        ("llama-rope3-bias", "FusedDecoder"),
        ("qwen2", "FusedDecoder"),
        ("qwen3", "FusedDecoder"),
        ("mistral", "FusedDecoder"),
        ("mistral-window", "CachedDecoder"),
        ("gpt2", "CachedDecoder"),
        ("gemma3", "CachedDecoder"),
    ],
)
@pytest.mark.parametrize("slots", [5, 12])
async def test_logprobs_are_the_models(make_model: Callable[[str], Any], name: str, decoder: str, slots: int) -> None:
    model = make_model(name)
    engine = TorchEngine(model, max_slots=slots, context_limit=150, prefill_tokens=64)
    assert type(engine._decoder).__name__ == decoder
    turns = await conversations(engine)
    assert max(error(model, prompt, sample) for prompt, sample in turns) < 1e-5
    assert engine.stats.sampled_tokens == sum(len(sample.token_ids) for _, sample in turns)
    if slots == 12:
        assert engine.stats.reused_tokens > engine.stats.prefilled_tokens
        assert engine.stats.evicted_sessions == 0


async def test_a_model_without_a_cache_is_read_anew_at_every_step(make_model: Callable[[str], Any]) -> None:
    from forethought.agents.engines.torch_engine.generic import RecomputingDecoder

    model = make_model("gpt2")
    engine = TorchEngine(model, max_slots=4, context_limit=150)
    engine._decoder = RecomputingDecoder(model, slots=4, context_limit=150)
    engine._slots._swap = engine._decoder.swap
    turns = await conversations(engine, 6)
    assert max(error(model, prompt, sample) for prompt, sample in turns) < 1e-5


async def test_greedy_is_what_the_model_generates(model: Any) -> None:
    engine = TorchEngine(model, max_slots=3)
    prompts = [[7, 8, 9], [3] * 20, [1]]
    params = SamplingParams(max_tokens=10, temperature=0)
    samples = await asyncio.gather(*(engine.sample(prompt, params) for prompt in prompts))
    for prompt, sample in zip(prompts, samples, strict=True):
        generated = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=10,
        )
        assert sample.token_ids == generated[0, len(prompt) :].tolist()
        assert error(model, prompt, sample) < 1e-5


async def test_tempered_logprobs(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2)
    sample = await engine.sample([4, 5, 6], SamplingParams(max_tokens=20, temperature=0.7, seed=1))
    assert error(model, [4, 5, 6], sample, temperature=0.7) < 1e-5


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
@pytest.mark.parametrize("how", ["optimizer", "fused optimizer", "data"])
async def test_new_weights_are_used_and_old_prefixes_are_not(
    make_model: Callable[[str], Any], name: str, how: str
) -> None:
    model = make_model(name)
    engine = TorchEngine(model, max_slots=2, context_limit=200)
    params = SamplingParams(max_tokens=15, seed=3)
    prompt = list(range(10, 40))
    first = await engine.sample(prompt, params, session="s")
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    if how == "data":
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-0.01)
    else:
        torch.optim.AdamW(model.parameters(), lr=1e-3, fused=how == "fused optimizer").step()
    prompt += first.token_ids
    second = await engine.sample(prompt, params, session="s")
    assert engine.stats.reused_tokens == 0
    assert error(model, prompt, second) < 1e-5


async def test_weights_that_change_in_flight(model: Any) -> None:
    engine = TorchEngine(model, max_slots=2, context_limit=200)
    prompt = [1, 2, 3]
    task = asyncio.create_task(engine.sample(prompt, SamplingParams(max_tokens=30, seed=0)))
    while engine.stats.steps < 10:
        await asyncio.sleep(0)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(1.5)
    engine.weights_updated()
    sample = await task
    late = Sample(sample.token_ids[10:], sample.logprobs[10:], sample.finish_reason)
    assert error(model, prompt + sample.token_ids[:10], late) < 1e-5


async def test_dropout_is_off_while_sampling_and_on_again_after(make_model: Callable[[str], Any]) -> None:
    model = make_model("gpt2")
    model.train()
    model.transformer.h[1].eval()
    engine = TorchEngine(model, max_slots=2)
    sample = await engine.sample([4, 5, 6], SamplingParams(max_tokens=10, seed=1))
    assert model.training and model.transformer.h[0].training and not model.transformer.h[1].attn.training
    assert error(model, [4, 5, 6], sample) < 1e-5


async def test_half_precision_stays_close(make_model: Callable[[str], Any]) -> None:
    model = make_model("qwen3").to(torch.bfloat16)
    engine = TorchEngine(model, max_slots=4, context_limit=150)
    assert type(engine._decoder).__name__ == "FusedDecoder"
    sample = await engine.sample([4, 5, 6], SamplingParams(max_tokens=20, seed=1))
    assert error(model, [4, 5, 6], sample) < 0.2


def test_a_hook_on_a_module_is_not_bypassed(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: output * 2)
    engine = TorchEngine(model, max_slots=2)
    assert type(engine._decoder).__name__ == "CachedDecoder"
