"""Stretches of the token columns, read where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20
_KINDS = {"token_ids.i32": "<i4", "logprobs.f32": "<f4"}


class ColumnError(RuntimeError):
    """Tokens of an episode are not there; the message says which."""


class TokenColumns:
    """The columns of a run's folder.

    Args:
        folder: The folder with `tokens`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tokens"

    def token_ids(self, start: int, count: int) -> list[int]:
        """Ids of entries `start:start + count`.

        Raises:
            ColumnError: the column is missing or shorter.
        """
        ids: list[int] = self._read("token_ids.i32", start, count).tolist()
        return ids

    def logprobs(self, start: int, count: int) -> list[float]:
        """Log-probabilities of entries `start:start + count`; what is not finite is 0.

        Raises:
            ColumnError: the column is missing or shorter.
        """
        values: list[float] = np.nan_to_num(self._read("logprobs.f32", start, count), posinf=0, neginf=-99).tolist()
        return values

    def mean_logprob(self, start: int, count: int) -> float | None:
        """Mean log-probability of entries `start:start + count`; None when there are none.

        Raises:
            ColumnError: the column is missing or shorter.
        """
        if count <= 0:
            return None
        total = sum(
            float(np.nan_to_num(chunk, posinf=0, neginf=-99).sum(dtype=np.float64))
            for chunk in self._chunks("logprobs.f32", start, count)
        )
        return total / count

    def _chunks(self, name: str, start: int, count: int) -> Iterator[NDArray[Any]]:
        for begin in range(start, start + count, _CHUNK):
            yield self._read(name, begin, min(_CHUNK, start + count - begin))

    def _read(self, name: str, start: int, count: int) -> NDArray[Any]:
        path = self._folder / name
        kind = np.dtype(_KINDS[name])
        try:
            entries = path.stat().st_size // kind.itemsize
            if start + count > entries:
                raise ColumnError(f"tokens/{name} has {entries:,} entries, the episode's end at {start + count:,}")
            return np.fromfile(path, kind, count, offset=start * kind.itemsize)
        except OSError as error:
            raise ColumnError(f"tokens/{name}: {error.strerror}") from error
