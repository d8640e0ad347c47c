"""Tokens are drawn from the distribution whose log-probabilities are reported."""

from __future__ import annotations

import pytest
import torch

from forethought.agents.engine import SamplingParams
from forethought.agents.engines.torch_engine.sampling import BatchSampler

LOGITS = torch.tensor([0.5, 2.0, 1.0, -1.0, 0.0])


def draw_many(params: SamplingParams, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and log-probabilities for uniforms that cover [0, 1) evenly."""
    sampler = BatchSampler.of([params] * count, torch.device("cpu"))
    return sampler.draw(LOGITS.repeat(count, 1), [(i + 0.5) / count for i in range(count)])


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(), [0, 1, 2, 3, 4]),
        (SamplingParams(temperature=0.5), [0, 1, 2, 3, 4]),
        (SamplingParams(top_k=2), [1, 2]),
        (SamplingParams(top_p=0.56), [1]),
        (SamplingParams(top_p=0.6), [1, 2]),
        (SamplingParams(top_k=3, top_p=0.8, temperature=2.0), [0, 1, 2]),
    ],
)
def test_frequencies_are_the_reported_probabilities(params: SamplingParams, allowed: list[int]) -> None:
    tokens, logprobs = draw_many(params)
    weights = torch.full((5,), -torch.inf)
    weights[allowed] = LOGITS[allowed] / params.temperature
    expected = weights.softmax(-1)
    frequencies = tokens.bincount(minlength=5) / len(tokens)
    assert torch.allclose(frequencies, expected, atol=2e-4)
    assert torch.allclose(logprobs, expected[tokens].log(), atol=1e-6)


def test_greedy_reports_the_whole_distribution_at_temperature_one() -> None:
    tokens, logprobs = draw_many(SamplingParams(temperature=0, top_k=1, top_p=0.1), count=3)
    assert tokens.tolist() == [1, 1, 1]
    assert torch.allclose(logprobs, LOGITS.log_softmax(-1)[1].expand(3))


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_tokens_of_probability_zero_are_never_drawn(uniform: float) -> None:
    logits = torch.full((1, 50), -torch.inf)
    logits[0, 20:30] = 0.0
    tokens, logprobs = BatchSampler.of([SamplingParams()], torch.device("cpu")).draw(logits, [uniform])
    assert tokens.item() == (20 if uniform == 0.0 else 29)
    assert logprobs.isfinite().all()


def test_rows_keep_their_own_parameters() -> None:
    params = [SamplingParams(temperature=0), SamplingParams(top_k=1), SamplingParams(temperature=3.0)]
    tokens, logprobs = BatchSampler.of(params, torch.device("cpu")).draw(LOGITS.repeat(3, 1), [0.99, 0.99, 0.99])
    assert tokens.tolist() == [1, 1, 4]
    assert logprobs[1].item() == pytest.approx(0.0, abs=1e-6)
    assert logprobs[2].item() == pytest.approx((LOGITS / 3).log_softmax(-1)[4].item(), abs=1e-6)
