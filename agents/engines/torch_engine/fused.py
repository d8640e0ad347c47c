"""A short functional forward pass for Llama, Qwen2, Qwen3 and Mistral, reading the model's parameters where they are.

At a million parameters a decode step is mostly the overhead of calling operations, so this one calls few: no modules,
no copies of the cache, one rotation for queries and keys together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .memory import lazy_zeros

MODEL_TYPES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_PLAIN_MODULES = ("transformers.models.", "transformers.activations", "torch.nn.modules.")
_STATIC_ROPE = {"default", "linear", "llama3", "yarn"}


class Unsupported(Exception):
    """The model has something that this forward pass does not compute."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The modules of one decoder layer. Their parameters are read at every use: a trainer may replace the tensors."""

    norm_attention: nn.Module
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    norm_query: nn.Module | None
    norm_key: nn.Module | None
    output: nn.Linear
    norm_mlp: nn.Module
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear


class FusedDecoder:
    """Decodes with a preallocated cache of shape (layers, key or value, slots, heads, positions, head size).

    Raises:
        Unsupported: this forward pass does not know the model.
    """

    def __init__(self, model: nn.Module, *, slots: int, context_limit: int) -> None:
        _require_known(model, context_limit)
        config: Any = model.config
        body: Any = model.model
        head: Any = model.lm_head
        self._head: nn.Linear = head
        self._embedding: nn.Embedding = body.embed_tokens
        self._norm: Any = body.norm
        self._eps: float = config.rms_norm_eps
        self._layers = [_layer(layer) for layer in body.layers]
        self._rotary: nn.Module = body.rotary_emb
        attention = body.layers[0].self_attn
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._head_size: int = attention.head_dim

        self._capacity = context_limit + 1  # the last position takes the padding of prompts and is never read
        device, dtype = self._embedding.weight.device, self._embedding.weight.dtype
        shape = (len(self._layers), 2, slots, self._kv_heads, self._capacity, self._head_size)
        self._cache = lazy_zeros(shape, dtype=dtype, device=device)
        self._flat = [[side.view(-1, self._head_size) for side in layer] for layer in self._cache]
        first_rows = torch.arange(slots * self._kv_heads, device=device) * self._capacity
        self._first_rows = first_rows.view(slots, self._kv_heads)
        self._positions = torch.arange(self._capacity, device=device)
        with torch.no_grad():
            cos, sin = self._rotary(self._embedding.weight[:1, None], self._positions[None])
        if cos.shape[-1] != self._head_size:
            raise Unsupported("rotary embeddings of a part of the head")
        half = self._head_size // 2
        self._cos = cos[0]
        # rotate_half moves the second half to the front with its sign changed: the sign goes into the table.
        self._sin = torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)

    def prefill(self, first: int, tokens: Tensor, starts: Tensor, end: int) -> None:
        """See `Decoder.prefill`."""
        rows, width = tokens.shape
        positions = (starts[:, None] + self._positions[:width]).clamp_(max=self._capacity - 1)
        mask = self._mask(positions, end)[:, None]
        self._forward(slice(first, first + rows), tokens.reshape(-1), positions, end, mask, fill_only=True)

    def decode(self, tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """See `Decoder.decode`."""
        mask = self._mask(positions, end)[:, None, None]
        hidden = self._forward(slice(0, len(tokens)), tokens, positions[:, None], end, mask)
        return _linear(self._rms_norm(hidden, self._norm), self._head).float()

    def swap(self, a: int, b: int, length: int) -> None:
        """See `Decoder.swap`."""
        held = self._cache[:, :, a, :, :length].clone()
        self._cache[:, :, a, :, :length] = self._cache[:, :, b, :, :length]
        self._cache[:, :, b, :, :length] = held

    def copy(self, source: int, first: int, stop: int, length: int) -> None:
        """See `Decoder.copy`."""
        self._cache[:, :, first:stop, :, :length] = self._cache[:, :, source : source + 1, :, :length]

    def reset(self) -> None:
        """See `Decoder.reset`."""
        self._cache.zero_()

    def _mask(self, positions: Tensor, end: int) -> Tensor:
        """0 where a query at `positions` may look and -inf elsewhere, shape (*positions.shape, end)."""
        blocked = self._positions[:end] > positions[..., None]
        return self._cache.new_zeros(blocked.shape).masked_fill_(blocked, -torch.inf)

    def _rms_norm(self, x: Tensor, norm: Any) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], norm.weight, self._eps)

    def _forward(
        self, slots: slice, tokens: Tensor, positions: Tensor, end: int, mask: Tensor, *, fill_only: bool = False
    ) -> Tensor:
        """Run `tokens` (rows * width,), at `positions` (rows, width), through all layers.

        Returns:
            Hidden states (rows * width, hidden); with `fill_only` those before the last layer, whose cache is filled.
        """
        rows, width = positions.shape
        heads, kv_heads, size = self._heads, self._kv_heads, self._head_size
        x = F.embedding(tokens, self._embedding.weight)
        written = (self._first_rows[slots, None] + positions[..., None]).flatten()
        cos, sin = self._cos[positions.flatten(), None], self._sin[positions.flatten(), None]
        for layer, cache, (flat_keys, flat_values) in zip(self._layers, self._cache, self._flat, strict=True):
            normed = self._rms_norm(x, layer.norm_attention)
            query = _linear(normed, layer.query).view(-1, heads, size)
            key = _linear(normed, layer.key).view(-1, kv_heads, size)
            if layer.norm_query is not None and layer.norm_key is not None:
                query, key = self._rms_norm(query, layer.norm_query), self._rms_norm(key, layer.norm_key)
            turned = _rotate(torch.cat((query, key), 1), cos, sin)
            flat_keys.index_copy_(0, written, turned[:, heads:].reshape(-1, size))
            flat_values.index_copy_(0, written, _linear(normed, layer.value).view(-1, size))
            if fill_only and layer is self._layers[-1]:
                break
            keys, values = cache[0, slots, :, :end], cache[1, slots, :, :end]
            if width == 1:
                # One query per row: the query heads that share a key head stand in for the length of the query.
                grouped = turned[:, :heads].reshape(rows, kv_heads, -1, size)
                mixed = _attend(grouped, keys, values, mask).view(rows, -1)
            else:
                spread = turned[:, :heads].view(rows, width, heads, size).transpose(1, 2)
                mixed = F.scaled_dot_product_attention(spread, keys, values, mask, enable_gqa=heads != kv_heads)
                mixed = mixed.transpose(1, 2).reshape(rows * width, -1)
            x = _linear(mixed, layer.output).add_(x)
            normed = self._rms_norm(x, layer.norm_mlp)
            gate = F.silu(_linear(normed, layer.gate), inplace=True)
            x = _linear(gate.mul_(_linear(normed, layer.up)), layer.down).add_(x)
        return x


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        norm_attention=layer.input_layernorm,
        query=attention.q_proj,
        key=attention.k_proj,
        value=attention.v_proj,
        norm_query=getattr(attention, "q_norm", None),
        norm_key=getattr(attention, "k_norm", None),
        output=attention.o_proj,
        norm_mlp=layer.post_attention_layernorm,
        gate=mlp.gate_proj,
        up=mlp.up_proj,
        down=mlp.down_proj,
    )


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of `x` (tokens, heads, size)."""
    half = x.shape[-1] // 2
    return (x * cos).addcmul_(torch.cat((x[..., half:], x[..., :half]), -1), sin)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention of few queries (rows, kv heads, group, size) over long keys (rows, kv heads, end, size)."""
    rows, kv_heads, group, size = query.shape
    if query.dtype != torch.float32:
        return F.scaled_dot_product_attention(query, keys, values, mask)
    # On a CPU two batched products are up to twice as fast as the fused kernel, which is made for long queries.
    scores = torch.bmm(query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
    scores = scores.view(rows, kv_heads, group, -1).mul_(size**-0.5).add_(mask).softmax(-1)
    return torch.bmm(scores.view(rows * kv_heads, group, -1), values.flatten(0, 1))


def _require_known(model: nn.Module, context_limit: int) -> None:
    """Refuse whatever this forward pass would compute differently from the model."""
    kind = type(model)
    if kind.__name__ not in MODEL_TYPES or not kind.__module__.startswith("transformers.models."):
        raise Unsupported(f"the class {kind.__name__}")
    config: Any = model.config
    if config.hidden_act != "silu":
        raise Unsupported(f"the activation {config.hidden_act}")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in _STATIC_ROPE:
        raise Unsupported(f"rotary embeddings of type {rope}, which depend on the length")
    window = getattr(config, "sliding_window", None)
    if window is not None and window < context_limit:
        raise Unsupported(f"a sliding window of {window} positions")
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise Unsupported(f"the forward hook on {name}")
        plain = type(module).__module__.startswith(_PLAIN_MODULES)
        if not plain or ("_proj" in name.rpartition(".")[2] and type(module) is not nn.Linear):
            raise Unsupported(f"the module {name} of type {type(module).__name__}")
    parameters = list(model.parameters())
    if len({(p.device, p.dtype) for p in parameters}) != 1:
        raise Unsupported("parameters on several devices or of several types")
