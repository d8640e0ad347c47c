"""Output of unbounded length in bounded memory: the head and the tail are kept."""

from __future__ import annotations

from collections import deque


class Kept:
    """Collects bytes; holds at most about twice the limit at any time."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit - limit // 2
        self._tail_limit = limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= self._tail_limit:
                self._tail_size -= len(self._tail.popleft())

    def text(self) -> tuple[str, bool]:
        """What is kept, and whether anything was cut."""
        tail = b"".join(self._tail)
        cut = self.total - len(self._head) - min(len(tail), self._tail_limit)
        if cut:
            tail = tail[len(tail) - self._tail_limit :] if self._tail_limit else b""
            middle = f"\n... {cut} bytes cut ...\n".encode()
        else:
            middle = b""
        return (bytes(self._head) + middle + tail).decode("utf-8", "replace"), bool(cut)
