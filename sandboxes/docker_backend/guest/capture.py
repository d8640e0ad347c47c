"""Output of foreign code: read to the end, head and tail kept."""

from __future__ import annotations

import os

_MARKER_ROOM = 48


class Capture:
    """One stream of one run."""

    def __init__(self, descriptor: int, limit: int) -> None:
        """Read from a non-blocking descriptor; keep at most `limit` bytes."""
        self.descriptor = descriptor
        self.total = 0
        self._limit = limit
        keep = max(limit - _MARKER_ROOM, 0)
        self._head_size = keep // 2
        self._tail_size = keep - self._head_size
        self._data = bytearray()
        self._tail = bytearray()

    def read(self) -> bool:
        """Take what is there, one piece; False when there is nothing now, or never again."""
        try:
            part = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        if not part:
            return False
        self.total += len(part)
        room = self._limit - len(self._data)
        self._data += part[:room]
        if len(part) > room:
            self._tail += part[max(room, 0) :]
            if len(self._tail) > 4 * self._tail_size + 65536:
                del self._tail[: -self._tail_size or None]
        return True

    @property
    def cut(self) -> bool:
        """Whether something is missing from `data`."""
        return self.total > self._limit

    def data(self) -> bytes:
        """All of it, or head, a line that says how much was cut, and tail: never more than the limit."""
        if not self.cut:
            return bytes(self._data)
        if self._limit < 2 * _MARKER_ROOM:
            return bytes(self._data)
        tail = bytes(self._data + self._tail)[-self._tail_size :]
        missing = self.total - self._head_size - self._tail_size
        return bytes(self._data[: self._head_size]) + b"\n[... %d bytes cut ...]\n" % missing + tail
