"""How far the trainer's probabilities are from the sampler's for the same tokens."""

from __future__ import annotations

from typing import Any

import torch


class SamplerMismatch:
    """Collects |log p_trainer - log p_sampler| and p_trainer / p_sampler of trained tokens, under TRL's metric names.

    A healthy run keeps the mean difference below about 0.03; more means that sampler and trainer disagree on weights,
    temperature, masks or positions.
    """

    def __init__(self) -> None:
        self._noted: list[torch.Tensor] = []

    def note(self, trainer: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor) -> None:
        """Note (B, C) log-probabilities where `mask` is 1. Tokens without one (NaN) are left out."""
        difference = (trainer.float() - sampler)[mask.bool()]
        difference = difference[~difference.isnan()]
        if difference.numel() == 0:
            self._noted.append(trainer.new_tensor([0.0, 0.0, 0.0, -torch.inf, -torch.inf, -torch.inf]).float())
            return
        size = torch.tensor(float(difference.numel()), device=difference.device)
        gap, ratio = difference.abs(), difference.exp()
        self._noted.append(torch.stack([size, gap.sum(), ratio.sum(), gap.max(), ratio.max(), (-ratio).max()]))

    def flush(self, accelerator: Any) -> dict[str, float]:
        """Metrics of what was noted on all ranks since the last call; empty if nothing was."""
        if not self._noted:
            return {}
        noted = accelerator.gather(torch.stack(self._noted))
        self._noted = []
        count, gap, ratio = noted[:, :3].double().sum(0).tolist()
        gap_max, ratio_max, minus_ratio_min = noted[:, 3:].amax(0).tolist()
        if count == 0:
            return {}
        return {
            "sampling/sampling_logp_difference/mean": gap / count,
            "sampling/sampling_logp_difference/max": gap_max,
            "sampling/importance_sampling_ratio/min": -minus_ratio_min,
            "sampling/importance_sampling_ratio/mean": ratio / count,
            "sampling/importance_sampling_ratio/max": ratio_max,
        }
