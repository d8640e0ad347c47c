"""The layout of one forward pass.

TRL lays a row out as a left-padded prompt and a right-padded completion. Here every row is moved to the left edge:
under causal attention no real token sees the padding after it, so no attention mask is needed (the fast path of every
attention kernel) and positions count from 0 in every row. Padding-free rows follow one another instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from trl.trainer import utils as trl_utils

IGNORED = -100
"""Label of a position that is not scored."""


@dataclass(frozen=True, slots=True)
class LeftAligned:
    """Rows moved to the left edge. B rows, L tokens in the longest of them, C columns of completion."""

    ids: torch.Tensor
    """(B, L) token ids; arbitrary beyond the end of a row."""
    valid: torch.Tensor
    """(B, L) bool, True inside the row."""
    next_labels: torch.Tensor
    """(B, L) at i: the id at i + 1 where that one is scored, else `IGNORED`."""
    columns: torch.Tensor
    """(B, C) position in `next_labels` that scores each column of the completion."""

    @classmethod
    def of(cls, ids: torch.Tensor, mask: torch.Tensor, scored: torch.Tensor) -> LeftAligned:
        """Move (B, T) rows, each contiguous where `mask` is 1; `scored` (B, C) picks among the last C columns."""
        width = scored.size(1)
        lengths = mask.sum(1, keepdim=True)
        prompt_lengths = lengths - mask[:, -width:].sum(1, keepdim=True)
        span = torch.arange(int(lengths.max()), device=ids.device)
        source = (mask.argmax(1, keepdim=True) + span).clamp(max=ids.size(1) - 1)
        moved = ids.gather(1, source)
        valid = span < lengths
        columns = prompt_lengths - 1 + torch.arange(width, device=ids.device)
        columns = columns.clamp(min=0, max=moved.size(1) - 1)
        is_scored = torch.zeros_like(valid).scatter(1, columns, (scored * mask[:, -width:]).bool())
        # Columns beyond the end of the widest row were clamped onto the last position, which has no next token.
        is_scored[:, -1] = False
        shifted = torch.cat([moved[:, 1:], moved[:, -1:]], dim=1)
        return cls(moved, valid, shifted.masked_fill(~is_scored, IGNORED), columns)


def score_rows(
    model: Callable[..., Any],
    ids: torch.Tensor,
    mask: torch.Tensor,
    scored: torch.Tensor,
    *,
    vocab_size: int,
    padding_free: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Score the completions of one micro-batch with a model that has TRL's fused LM head.

    Args:
        model: Called as TRL calls it; it divides the logits by the sampling temperature.
        ids: (B, T) left-padded prompts and right-padded completions.
        mask: (B, T), 1 on real tokens.
        scored: (B, C), 1 where the log-probability is wanted, for the last C columns.
        vocab_size: Columns of the LM head.
        padding_free: Pack the rows instead of padding them.

    Returns:
        (B, C) log-probabilities and entropies (None from a model without an entropy head); 0 where nothing is scored.
    """
    rows = LeftAligned.of(ids, mask, scored)
    if padding_free:
        positions = torch.arange(rows.ids.size(1), device=ids.device).expand_as(rows.ids)
        layout: dict[str, Any] = {
            "input_ids": rows.ids[rows.valid][None],
            "position_ids": positions[rows.valid][None],
            "shift_labels": rows.next_labels[rows.valid][None],
        }
    else:
        layout = {"input_ids": rows.ids, "shift_labels": rows.next_labels}
    # TRL's head works in a buffer of that many columns: with a small vocabulary it is slow only because it is sparse.
    chunk = min(trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE, vocab_size)
    with patch.object(trl_utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", chunk):
        output = model(**layout, fused_lm_head=True)

    def columns(values: torch.Tensor) -> torch.Tensor:
        if padding_free:
            values = values.new_zeros(rows.valid.shape).masked_scatter(rows.valid, values[0])
        return values.gather(1, rows.columns)

    return columns(output.log_probs), None if output.entropy is None else columns(output.entropy)
