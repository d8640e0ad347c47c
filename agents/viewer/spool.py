"""Texts that are too many to keep in memory: in a file that is gone when the process is."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

import numpy as np

_PENDING, _CHUNK = 1 << 20, 4 << 20


class Spool:
    """Numbered texts; only where each one ends is kept in memory."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None  # a recipe has hundreds of runs that nobody looks at
        self._ends = array("Q")
        self._pending = bytearray()
        self._written = 0

    def append(self, data: bytes) -> None:
        """Add a text."""
        self._pending += data
        self._ends.append(self._written + len(self._pending))
        if len(self._pending) >= _PENDING:
            self._flush()

    def __getitem__(self, number: int) -> bytes:
        begin = self._ends[number - 1] if number else 0
        return os.pread(self._flush(), self._ends[number] - begin, begin)

    def containing(self, needle: bytes) -> Iterator[int]:
        """Numbers of the texts that contain `needle`, in order; no text may end with a part of it."""
        file = self._flush()
        ends = np.array(self._ends, np.uint64)
        first = 0
        while first < len(ends):
            begin = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, begin + _CHUNK, "right")))
            chunk = os.pread(file, int(ends[last - 1]) - begin, begin)
            at = 0
            while (at := chunk.find(needle, at)) >= 0:
                number = int(np.searchsorted(ends, begin + at, "right"))
                at = int(ends[number]) - begin
                yield number
            first = last

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()

    def _flush(self) -> int:
        """Write what waits; returns the file's number."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="forethought-view-")  # noqa: SIM115
        number = self._file.fileno()
        view = memoryview(bytes(self._pending))
        self._pending.clear()
        while view:
            done = os.pwrite(number, view, self._written)
            self._written += done
            view = view[done:]
        return number
