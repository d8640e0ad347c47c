"""Decoders that call the model's own forward pass: for every architecture that has no faster one here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin

from .fused import Unsupported
from .memory import lazy_zeros


class _Window:
    """Which part of the cache the current forward pass writes and reads; shared by all layers."""

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.rows = slice(0, 0)
        self.row_indices = torch.empty(0, dtype=torch.int64)
        """(rows, 1)"""
        self.positions = torch.empty(0, dtype=torch.int64)
        """(rows, width): where the new keys and values go"""
        self.end = 0


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of the cache: keys and values of shape (slots, heads, positions, head size)."""

    is_sliding = False

    def __init__(self, window: _Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._window = window
        self.sides: list[Tensor] = []
        """Keys and values; empty until the first forward pass shows their shape."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        window = self._window
        for new in (key_states, value_states):
            shape = (window.slots, new.shape[1], window.capacity, new.shape[3])
            self.sides.append(lazy_zeros(shape, dtype=new.dtype, device=new.device))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._window
        keys, values = self.sides
        keys[window.row_indices, :, window.positions] = key_states.transpose(1, 2)
        values[window.row_indices, :, window.positions] = value_states.transpose(1, 2)
        return keys[window.rows, :, : window.end], values[window.rows, :, : window.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._window.end, 0

    def get_seq_length(self) -> int:
        return self._window.end - self._window.positions.shape[1]

    def get_max_length(self) -> int:
        return self._window.capacity

    def get_max_cache_shape(self) -> int:  # the name of get_max_length in earlier transformers 5
        return self._window.capacity


class CachedDecoder:
    """Any model whose attention goes through a transformers `Cache` and takes a four-dimensional mask.

    Raises:
        Unsupported: the model has state other than keys and values by position.
    """

    def __init__(self, model: nn.Module, *, slots: int, context_limit: int) -> None:
        accepted = inspect.signature(model.forward).parameters
        if "position_ids" not in accepted and not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            raise Unsupported("a model without position_ids")
        config: Any = model.config
        config = config.get_text_config(decoder=True)
        self._layer_types: set[str] = set(getattr(config, "layer_types", None) or ())
        self._sliding: int | None = getattr(config, "sliding_window", None)
        unknown = self._layer_types - {"full_attention", "sliding_attention"}
        if unknown:
            raise Unsupported(f"layers of type {', '.join(sorted(unknown))}")
        self._model = model
        self._last_position = context_limit - 1
        self._window = _Window(slots, context_limit + 1)
        self._cache: Any = Cache(layer_class_to_replicate=lambda *args, **kwargs: _SlotLayer(self._window))  # type: ignore[arg-type]
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device
        self._steps = torch.arange(max(slots, context_limit + 1), device=self._device)

    def prefill(self, first: int, tokens: Tensor, starts: Tensor, end: int) -> None:
        """See `Decoder.prefill`."""
        self._forward(first, tokens, starts[:, None] + self._steps[: tokens.shape[1]], end)

    def decode(self, tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """See `Decoder.decode`."""
        return self._forward(0, tokens[:, None], positions[:, None], end)[:, -1].float()

    def swap(self, a: int, b: int, length: int) -> None:
        """See `Decoder.swap`."""
        for layer in self._cache.layers:
            for side in layer.sides:
                held = side[a, :, :length].clone()
                side[a, :, :length] = side[b, :, :length]
                side[b, :, :length] = held

    def copy(self, source: int, first: int, stop: int, length: int) -> None:
        """See `Decoder.copy`."""
        for layer in self._cache.layers:
            for side in layer.sides:
                side[first:stop, :, :length] = side[source : source + 1, :, :length]

    def reset(self) -> None:
        """See `Decoder.reset`."""
        for layer in self._cache.layers:
            for side in layer.sides:
                side.zero_()

    def _forward(self, first: int, tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """Logits (rows, 1 or width, vocabulary)."""
        rows = len(tokens)
        window = self._window
        window.rows, window.end = slice(first, first + rows), end
        window.row_indices = self._steps[first : first + rows, None]
        window.positions = positions.clamp(max=window.capacity - 1)
        with evaluating(self._model):
            logits: Tensor = self._model(
                input_ids=tokens,
                attention_mask=self._masks(positions, end),
                # Learned positions end one before the cell that takes the padding.
                position_ids=positions.clamp(max=self._last_position),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        return logits

    def _masks(self, positions: Tensor, end: int) -> Tensor | dict[str, Tensor]:
        """Additive masks (rows, 1, width, end), by layer type where the model has several."""
        distance = positions[:, None, :, None] - self._steps[:end]

        def additive(blocked: Tensor) -> Tensor:
            # The smallest finite number, not -inf: eager attention of a fully blocked row must not be NaN.
            lowest = torch.finfo(self._dtype).min
            return torch.zeros(blocked.shape, dtype=self._dtype, device=self._device).masked_fill_(blocked, lowest)

        causal = distance < 0
        if self._sliding is None:
            return additive(causal)
        sliding = causal | (distance >= self._sliding)
        if len(self._layer_types) > 1:
            return {"full_attention": additive(causal), "sliding_attention": additive(sliding)}
        return additive(causal if self._layer_types == {"full_attention"} else sliding)


class RecomputingDecoder:
    """Any causal language model at all: keeps the tokens of each slot and reads them anew at every step."""

    def __init__(self, model: nn.Module, *, slots: int, context_limit: int) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._tokens = torch.zeros(slots, context_limit + 1, dtype=torch.int64, device=device)
        self._steps = torch.arange(max(slots, context_limit + 1), device=device)

    def prefill(self, first: int, tokens: Tensor, starts: Tensor, end: int) -> None:
        """See `Decoder.prefill`."""
        rows, width = tokens.shape
        positions = (starts[:, None] + self._steps[:width]).clamp_(max=self._tokens.shape[1] - 1)
        self._tokens[self._steps[first : first + rows, None], positions] = tokens

    def decode(self, tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """See `Decoder.decode`."""
        rows = self._steps[: len(tokens)]
        self._tokens[rows, positions] = tokens
        live = (self._steps[:end] <= positions[:, None]).long()
        with evaluating(self._model):
            output = self._model(input_ids=self._tokens[: len(rows), :end], attention_mask=live, use_cache=False)
        logits: Tensor = output.logits[rows, positions]
        return logits.float()

    def swap(self, a: int, b: int, length: int) -> None:
        """See `Decoder.swap`."""
        self._tokens[[a, b], :length] = self._tokens[[b, a], :length]

    def copy(self, source: int, first: int, stop: int, length: int) -> None:
        """See `Decoder.copy`."""
        self._tokens[first:stop, :length] = self._tokens[source, :length]

    def reset(self) -> None:
        """See `Decoder.reset`."""
        self._tokens.zero_()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout and the like off, and back on exactly where they were on.

    Leaves inference mode: a model may keep tensors that it makes (rotary tables), and training could not use them.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
