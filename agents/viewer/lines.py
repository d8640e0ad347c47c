"""The lines of a file that another process may be writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 4 << 20
LONGEST_LINE = 256 << 20
"""Bytes of one line that are read; of a longer one only the beginning."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line."""

    offset: int
    length: int
    """Bytes, the line feed not among them."""
    data: bytes | bytearray
    """The bytes; only the beginning when the line is longer than `LONGEST_LINE`."""


class GrowingFile:
    """Reads whole lines from where it stopped the last time; an unfinished last line waits until it is finished.

    Args:
        path: The file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """Bytes of the file when it was last looked at."""
        self.position = 0
        """First byte that belongs to no whole line read so far."""
        self._inode: int | None = None

    def replaced(self) -> bool:
        """Look at the file; whether it is another one than before or was cut, so that reading begins again."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self.size = 0
            return self._forget()
        self.size = status.st_size
        if self._inode not in (None, status.st_ino) or self.size < self.position:
            self._forget()
            self._inode = status.st_ino
            return True
        self._inode = status.st_ino
        return False

    def _forget(self) -> bool:
        known, self._inode, self.position = self._inode is not None, None, 0
        return known

    def new_lines(self) -> Iterator[Line]:
        """The whole lines that were not read yet; memory is bounded by the longest line."""
        try:
            file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return
        with file:
            file.seek(self.position)
            started = self.position
            waiting = bytearray()
            read = 0
            """Bytes of the unfinished line so far, those that are not kept among them."""
            while chunk := file.read(_CHUNK):
                begin = 0
                while (end := chunk.find(b"\n", begin)) >= 0:
                    read += end - begin
                    data: bytes | bytearray = chunk[begin:end]
                    if waiting:
                        waiting += data[: LONGEST_LINE - len(waiting)]
                        data, waiting = waiting, bytearray()
                    begin = end + 1
                    self.position = started + read + 1
                    yield Line(started, read, data)
                    started, read = self.position, 0
                rest = memoryview(chunk)[begin:]
                waiting += rest[: LONGEST_LINE - len(waiting)]
                read += len(rest)


def read_bytes(path: Path, offset: int, length: int) -> bytes:
    """A stretch of a file; shorter where the file ends.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        parts = []
        while length > 0 and (part := file.read(min(length, _CHUNK))):
            parts.append(part)
            length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
