"""Episodes on disk: `episodes.jsonl` and, beside it, the tokens in columns.

    RUN/episodes.jsonl          one row of the schema `episode` a line
    RUN/tokens/token_ids.i32    little-endian int32
    RUN/tokens/sampled.u8       1 where the policy sampled the token
    RUN/tokens/logprobs.f32     little-endian float32

Entry `i` of each column is one token; a segment's row says where its tokens begin and how many there are. Columns are
only appended to and the row is written last, so a writer that is killed loses at most the episode that it was writing:
opening the store for appending cuts what has no whole row.
"""

from __future__ import annotations

import fcntl
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .episode import Episode, Status
from .episode_rows import encode_row, episode_from_row, episode_to_row

_COLUMNS = {"token_ids.i32": "i", "sampled.u8": "B", "logprobs.f32": "f"}
_BYTES = {"i": 4, "B": 1, "f": 4}


class StoreError(RuntimeError):
    """An episode store cannot be read or written; the message says where and what is kept."""


class EpisodeWriter:
    """Appends episodes to a store, which is made when there is none.

    Args:
        folder: The run's folder.

    Raises:
        StoreError: another process writes to the store, or a line of `episodes.jsonl` other than the last is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        (self._folder / "tokens").mkdir(parents=True, exist_ok=True)
        self.finished: set[str] = set()
        """Ids of the episodes in the store that need not be rolled out again (faults are tried again)."""
        self._tokens = 0
        self._end = 0
        """Bytes of `episodes.jsonl` that are whole rows."""
        self._lock = open(self._folder / ".lock", "ab")  # noqa: SIM115
        try:
            # Unlike flock, a lock that no forked child inherits: a worker that outlives the run would keep it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._lock.close()
            raise StoreError(
                f"another process is writing to {self._folder}; stop it or choose another folder"
            ) from None
        self._rows: IO[bytes] = open(self._folder / "episodes.jsonl", "ab", buffering=0)  # noqa: SIM115
        self._columns: list[IO[bytes]] = [
            open(self._folder / "tokens" / name, "ab", buffering=0)  # noqa: SIM115
            for name in _COLUMNS
        ]
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def append(self, episode: Episode) -> None:
        """Write one episode; once this returns it survives the death of the process.

        Raises:
            StoreError: the disk is full or gone, or the episode holds what JSON cannot; everything appended before is
                kept.
        """
        try:
            row = encode_row(episode_to_row(episode, self._tokens))
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"episode {episode.id!r} cannot be written as JSON: {error}") from error
        columns = [
            _pack(kind, episode, field)
            for kind, field in zip(_COLUMNS.values(), ("token_ids", "sampled", "logprobs"), strict=True)
        ]
        counts = {len(column) // _BYTES[kind] for column, kind in zip(columns, _COLUMNS.values(), strict=True)}
        if len(counts) > 1:
            raise ValueError(f"episode {episode.id!r}: a segment's token_ids, sampled and logprobs differ in length")
        try:
            for file, column in zip(self._columns, columns, strict=True):
                _write(file, column)
            _write(self._rows, row)
        except BaseException as error:
            try:
                self._cut()
            except OSError:
                self.close()  # what comes next could not be told from what is left here
            if not isinstance(error, OSError):
                raise
            kept = len(self.finished)
            raise StoreError(
                f"cannot write to {self._folder}: {error.strerror}; the {kept} episodes before are kept. "
                "Free some space and run the same command again: it goes on from there"
            ) from error
        self._tokens += counts.pop()
        self._end += len(row)
        if episode.status is not Status.FAULT:
            self.finished.add(episode.id)

    def close(self) -> None:
        """Close the files."""
        for file in (self._rows, *self._columns, self._lock):
            file.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _recover(self) -> None:
        """Find what is whole, and cut the rest."""
        path = self._folder / "episodes.jsonl"
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                row = _read_row(line, path, number)
                if row["status"] != Status.FAULT:
                    self.finished.add(row["id"])
                self._tokens = max([self._tokens, *(s["offset"] + s["length"] for s in row["segments"])])
                self._end += len(line)
        for name, kind in _COLUMNS.items():
            column = self._folder / "tokens" / name
            if column.stat().st_size < self._tokens * _BYTES[kind]:
                raise StoreError(f"{column} is shorter than {path} says: the run is damaged")
        self._cut()

    def _cut(self) -> None:
        """Cut what was written for an episode that has no whole row."""
        self._rows.truncate(self._end)
        for file, kind in zip(self._columns, _COLUMNS.values(), strict=True):
            file.truncate(self._tokens * _BYTES[kind])


class EpisodeStore:
    """Reads the episodes of a run; the columns are mapped into memory, not loaded.

    Args:
        folder: The run's folder.

    Raises:
        StoreError: there is no `episodes.jsonl` in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._path = self.folder / "episodes.jsonl"
        if not self._path.exists():
            raise StoreError(f"no episodes in {self.folder}: expected a file episodes.jsonl")

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, in the order they were written; a last line that a killed writer left unfinished is left out.

        A fault that was tried again later is left out too.
        """
        superseded = self._superseded()
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                if number not in superseded:
                    yield _read_row(line, self._path, number)

    def __iter__(self) -> Iterator[Episode]:
        """The episodes, with their tokens."""
        columns = self._map_columns()
        for row in self.rows():
            episode = episode_from_row(row)
            end = max((where["offset"] + where["length"] for where in row["segments"]), default=0)
            if any(len(column) < end for column in columns):  # a writer has appended since they were mapped
                columns = self._map_columns()
                if any(len(column) < end for column in columns):
                    raise StoreError(f"{self.folder / 'tokens'}: tokens of episode {row['id']!r} are missing")
            for segment, where in zip(episode.segments, row["segments"], strict=True):
                tokens = slice(where["offset"], where["offset"] + where["length"])
                segment.token_ids, segment.sampled, segment.logprobs = (column[tokens].tolist() for column in columns)
            yield episode

    def _map_columns(self) -> list[NDArray[Any]]:
        kinds = ("<i4", "u1", "<f4")
        return [_map_column(self.folder / "tokens" / name, kind) for name, kind in zip(_COLUMNS, kinds, strict=True)]

    def _superseded(self) -> set[int]:
        """Lines of faults that a later line of the same episode replaces."""
        faults: dict[str, int] = {}
        superseded: set[int] = set()
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if (not faults and b'"status":"fault"' not in line) or not line.endswith(b"\n"):
                    continue
                row = _read_row(line, self._path, number)
                if row["id"] in faults:
                    superseded.add(faults.pop(row["id"]))
                if row["status"] == Status.FAULT:
                    faults[row["id"]] = number
        return superseded


def _read_row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        schema = row["schema"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path}, line {number}: not an episode row; the file was edited or damaged") from None
    if schema != "forethought/episode/1":
        raise StoreError(
            f"{path}, line {number}: written with schema {schema!r}, this version reads 'forethought/episode/1'"
        )
    return row


def _pack(kind: str, episode: Episode, field: str) -> bytes:
    parts = []
    for segment in episode.segments:
        values: list[Any] = getattr(segment, field)
        parts.append(struct.pack(f"<{len(values)}{kind}", *values))
    return b"".join(parts)


def _map_column(path: Path, kind: str) -> NDArray[Any]:
    # A writer that was killed may have left part of an entry at the end.
    entries = path.stat().st_size // np.dtype(kind).itemsize if path.exists() else 0
    return np.memmap(path, kind, "r", shape=(entries,)) if entries else np.empty(0, kind)


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all of `data`: a raw file may take less than it is given when a disk fills up."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
