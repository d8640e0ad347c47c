"""Draws one token per row from a batch of logits.

Each row brings one uniform number per step and the token is found by inverting the cumulative distribution, so what a
row draws depends on its own generator and its own logits, never on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...engine import SamplingParams

_LARGEST_UNIFORM = 1.0 - 2.0**-23
"""Largest number below 1 whose product with any positive fp32 stays below that fp32."""


@dataclass(frozen=True, slots=True)
class BatchSampler:
    """The sampling parameters of a batch as tensors of shape (rows, 1); None where no row needs the operation."""

    temperature: Tensor | None
    greedy: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None

    @classmethod
    def of(cls, params: Sequence[SamplingParams], device: torch.device) -> BatchSampler:
        """Collect the parameters of the rows of a batch."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device, dtype=torch.float32)[:, None]

        greedy = [p.temperature == 0 for p in params]
        # A greedy row reports log-probabilities at temperature 1 of the whole vocabulary.
        temperature = [1.0 if is_greedy else p.temperature for p, is_greedy in zip(params, greedy, strict=True)]
        top_k = [float(p.top_k) if p.top_k > 0 and not g else float("inf") for p, g in zip(params, greedy, strict=True)]
        top_p = [1.0 if is_greedy else p.top_p for p, is_greedy in zip(params, greedy, strict=True)]
        truncates = min(top_k) < float("inf") or min(top_p) < 1.0
        return cls(
            temperature=column(temperature) if any(value != 1.0 for value in temperature) else None,
            greedy=torch.tensor(greedy, device=device)[:, None] if any(greedy) else None,
            top_k=column(top_k) if truncates else None,
            top_p=column(top_p) if truncates else None,
        )

    def draw(self, logits: Tensor, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Sample from fp32 `logits` (rows, vocabulary), which are overwritten.

        Returns:
            Token ids (rows,) and the log-probability of each under the distribution it was drawn from (rows,).
        """
        if self.temperature is not None:
            logits.div_(self.temperature)
        probabilities = logits.softmax(-1)
        if self.top_k is not None and self.top_p is not None:
            probabilities = _truncate(probabilities, self.top_k, self.top_p)
        cumulative = probabilities.cumsum(-1)
        uniform = torch.tensor(uniforms, device=logits.device, dtype=torch.float32)[:, None]
        threshold = uniform.clamp_(max=_LARGEST_UNIFORM).mul_(cumulative[:, -1:])
        tokens = torch.searchsorted(cumulative, threshold, right=True)
        if self.greedy is not None:
            tokens = torch.where(self.greedy, probabilities.argmax(-1, keepdim=True), tokens)
        # Without the clamp a row of NaN logits would index past the vocabulary instead of reporting a NaN.
        tokens = tokens.clamp_(max=logits.shape[1] - 1)
        return tokens[:, 0], probabilities.gather(1, tokens).log_()[:, 0]


def _truncate(probabilities: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Keep the `top_k` likeliest tokens, of those the fewest that hold `top_p` of the mass, and renormalise."""
    ordered, order = probabilities.sort(stable=True, dim=-1, descending=True)
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    ordered = ordered.masked_fill(rank >= top_k, 0.0)
    ordered = ordered / ordered.sum(-1, keepdim=True)
    mass_before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill((mass_before >= top_p) & (rank > 0), 0.0)
    ordered = ordered / ordered.sum(-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter_(1, order, ordered)
