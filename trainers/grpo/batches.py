"""Micro-batches bounded by tokens: rows of similar length share one, trimmed to its own width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_PROMPT_KEYS = ("prompt_ids", "prompt_mask")
_COMPLETION_KEYS = (
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "advantages",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
)


def cut(lengths: Sequence[int], budget: int, *, padded: bool) -> list[tuple[int, int]]:
    """Cut rows, given by descending length, into runs `start:end` of at most `budget` tokens.

    A run costs rows x longest row when `padded`, else the sum of its rows. A row longer than the budget is a run alone.
    """
    runs: list[tuple[int, int]] = []
    start, used = 0, 0
    for index, length in enumerate(lengths):
        cost = lengths[start] * (index - start + 1) if padded else used + length
        if index > start and cost > budget:
            runs.append((start, index))
            start, cost = index, length
        used = cost
    if lengths:
        runs.append((start, len(lengths)))
    return runs


def select_rows(inputs: dict[str, Any], index: torch.Tensor) -> dict[str, Any]:
    """Rows `index` of a TRL batch, its columns trimmed to what these rows need. Scalars pass through."""
    prompt_width = int(inputs["prompt_mask"][index].sum(1).max())
    completion_width = int(inputs["completion_mask"][index].sum(1).max())
    selected: dict[str, Any] = {}
    for key, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.ndim > 0:
            value = value[index]
            if key in _PROMPT_KEYS:
                value = value[:, value.size(1) - prompt_width :]
            elif key in _COMPLETION_KEYS and value.ndim == 2:
                value = value[:, :completion_width]
        selected[key] = value
    return selected
