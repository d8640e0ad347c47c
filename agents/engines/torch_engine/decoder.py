"""What the engine needs of a model: fill slots with prompt tokens, and take one decode step."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Decoder(Protocol):
    """A model and its per-slot state (a key-value cache of `slots` rows and `context_limit` positions).

    All tensors are on the model's device; token ids and positions are int64. `end` bounds the positions of a call from
    above (exclusive), so that only the live part of the cache is read.
    """

    def prefill(self, first: int, tokens: Tensor, starts: Tensor, end: int) -> None:
        """Put `tokens` (rows, width) into slots `first .. first+rows-1`, row `i` at position `starts[i]` and after.

        Rows are padded on the right: what padding leaves behind a row's last token is overwritten before it is read.
        """
        ...

    def decode(self, tokens: Tensor, positions: Tensor, end: int) -> Tensor:
        """Put one token (rows,) at its position (rows,) into each of slots `0 .. rows-1`.

        Returns:
            fp32 logits (rows, vocabulary) of the token that follows. The caller may overwrite them.
        """
        ...

    def swap(self, a: int, b: int, length: int) -> None:
        """Exchange what slots `a` and `b` hold at positions `0 .. length-1`."""
        ...

    def copy(self, source: int, first: int, stop: int, length: int) -> None:
        """Put what slot `source` holds at positions `0 .. length-1` into slots `first .. stop-1` too."""
        ...

    def reset(self) -> None:
        """Clear the state of all slots, also of values that are not finite."""
        ...
