"""Picks the fastest decoder that computes what the model computes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from .decoder import Decoder
from .fused import FusedDecoder, Unsupported
from .generic import CachedDecoder, RecomputingDecoder, evaluating

_log = logging.getLogger(__name__)


def choose_decoder(model: nn.Module, *, slots: int, context_limit: int) -> Decoder:
    """Try the decoders from fast to general, each on a probe against the model's own forward pass.

    Raises:
        ValueError: none of them reproduces the model's logits.
    """
    reasons = []
    for kind in (FusedDecoder, CachedDecoder, RecomputingDecoder):
        try:
            trial: Decoder = kind(model, slots=3, context_limit=context_limit)
            _require_equal(trial, model, context_limit)
        except Exception as error:  # a model that is called in a way it does not know may raise anything
            reasons.append(f"{kind.__name__}: {error}")
            _log.debug("%s does not fit %s: %s", kind.__name__, type(model).__name__, error)
            continue
        if kind is RecomputingDecoder:
            _log.warning("%s has no usable cache: every step reads all contexts anew.", type(model).__name__)
        return kind(model, slots=slots, context_limit=context_limit)
    raise ValueError(f"TorchEngine cannot sample from {type(model).__name__} ({'; '.join(reasons)}).")


@torch.inference_mode()
def _require_equal(decoder: Decoder, model: nn.Module, context_limit: int) -> None:
    """Compare rows of different lengths, put into the cache in two parts, swapped and copied, with the model."""
    width = _probe_length(model, context_limit)
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    device = embedding.weight.device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(embedding.num_embeddings, (3, width), generator=generator).to(device)
    with evaluating(model):
        expected = model(input_ids=tokens, use_cache=False).logits
    order = torch.tensor([1, 0, 2], device=device)
    last = torch.tensor([width - 1, max(1, width - 3), width // 2], device=device)
    cut = width // 3
    decoder.prefill(0, tokens[:, :cut], torch.zeros_like(last), cut)
    decoder.prefill(0, tokens[:, cut:], torch.full_like(last, cut), width)
    decoder.swap(0, 1, width)
    tolerance = 1e-4 if expected.dtype == torch.float32 else 0.1
    for _ in range(2):
        wanted = expected[order, last].float()
        for rows in (3, 1):
            _compare(decoder.decode(tokens[order, last][:rows], last[:rows], width), wanted[:rows], tolerance=tolerance)
        decoder.copy(0, 1, 3, width)
        order = order[:1].expand(3)
        last = last[:1].expand(3)


def _compare(actual: Tensor, expected: Tensor, *, tolerance: float) -> None:
    # Half precision differs in rounding by a few per cent of the largest logit, a wrong formula by its whole size.
    error = (actual - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not error <= tolerance:
        raise Unsupported(f"logits differ by {error:.1e} of the largest")


def _probe_length(model: nn.Module, context_limit: int) -> int:
    """Tokens of the probe: past a small sliding window, where an error in it shows."""
    window = getattr(model.config, "sliding_window", None) or 0
    return min(context_limit, 24 + (window if window <= 512 else 0))
