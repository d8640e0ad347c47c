"""Notices that a model's weights changed, whoever changed them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(model: nn.Module) -> tuple[int, ...]:
    """A checksum of the bits of all parameters.

    Version counters of tensors would be cheaper but miss fused optimizers and writes through `.data`. It reads every
    weight once, which takes about as long as a decode step of one row.
    """
    with torch.inference_mode():
        totals = [_bits(parameter).sum() for parameter in model.parameters()]
        return tuple(int(total) for total in totals)


def _bits(parameter: Tensor) -> Tensor:
    """The memory of `parameter` as integers: in words of 64 bits if possible, whose sum is ten times as fast."""
    per_word = 8 // parameter.element_size()
    if parameter.is_contiguous() and parameter.numel() % per_word == 0 == parameter.storage_offset() % per_word:
        return parameter.view(-1).view(torch.int64)
    return parameter.view(_BITS[parameter.element_size()])
