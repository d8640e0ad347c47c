"""Reads the episodes of a run as far as they are sound, and says what is not.

`EpisodeStore` stops at the first damage, as a resuming run must. Whoever verifies a run, or shows one, goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.json_schema import first_violation, published_validator
from ..episode import Episode
from ..episode_rows import SCHEMA, episode_from_row

_LONGEST_LINE = 512 << 20
_COLUMNS = {"token_ids": ("token_ids.i32", "<i4"), "sampled": ("sampled.u8", "u1"), "logprobs": ("logprobs.f32", "<f4")}


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that is no episode."""

    line: int
    problem: str


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Damage]:
    """The rows of `episodes.jsonl` with their line numbers (from 1), and what is damaged."""
    validator = published_validator("episode", "forethought.agents")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) == _LONGEST_LINE:
                    yield Damage(
                        number, f"the line is longer than {_LONGEST_LINE >> 20} MiB; nothing after it was read"
                    )
                else:
                    yield Damage(
                        number, "the last line is not whole: its writer was killed; run the same command again"
                    )
                return
            try:
                row = json.loads(line, parse_constant=_reject)
            except (ValueError, RecursionError):
                yield Damage(number, "not JSON: the file was edited or damaged")
                continue
            schema = row.get("schema") if isinstance(row, dict) else None
            if schema != SCHEMA:
                yield Damage(number, f"written with schema {str(schema)[:60]!r}, this version reads {SCHEMA!r}")
                continue
            violation = first_violation(validator, row)
            if violation is not None:
                yield Damage(number, f"does not fit the schema {SCHEMA!r}: {violation}")
                continue
            yield number, row


class Columns:
    """The token columns of a store, mapped into memory.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._columns = {}
        for name, (file, kind) in _COLUMNS.items():
            path = folder / "tokens" / file
            entries = path.stat().st_size // np.dtype(kind).itemsize if path.is_file() else 0
            self._columns[name] = np.memmap(path, kind, "r", shape=(entries,)) if entries else np.empty(0, kind)
        self.length = min(map(len, self._columns.values()))
        """Tokens that all columns have."""
        self.longest = max(map(len, self._columns.values()))

    def episode(self, row: dict[str, Any]) -> Episode | None:
        """The episode of a row with its tokens; None when they are not all there."""
        episode = episode_from_row(row)
        for segment, where in zip(episode.segments, row["segments"], strict=True):
            tokens = slice(where["offset"], where["offset"] + where["length"])
            if tokens.stop > self.length:
                return None
            for name, column in self._columns.items():
                setattr(segment, name, column[tokens].tolist())
        return episode


def _reject(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
