"""Open descriptors that have one owner: who drops one, or is thrown out of it by an exception, has closed it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable

_MAX_RECEIVED = 8


class Descriptor:
    """Closed once: by its owner, or with the last reference to it where nobody got to own it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._closing = threading.Lock()
        self._open = True

    def close(self) -> None:
        """Close it; again is no error."""
        with self._closing:
            if not self._open:
                return
            self._open = False
        os.close(self.number)

    def __enter__(self) -> Descriptor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def close_all(descriptors: Iterable[Descriptor]) -> None:
    """Close each of them."""
    for descriptor in descriptors:
        descriptor.close()


def pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose ends two owners hold."""
    ends = [Descriptor(end) for end in os.pipe()]
    return reads.enter_context(ends[0]).number, writes.enter_context(ends[1]).number


def pair(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack, kind: socket.SocketKind
) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that two owners hold."""
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    return ours.enter_context(one), theirs.enter_context(other)


def receive(channel: socket.socket, size: int) -> tuple[bytes, list[Descriptor]]:
    """A message and what came with it; raises `OSError`."""
    message, ancillary, _, _ = channel.recvmsg(size, socket.CMSG_SPACE(_MAX_RECEIVED * 4), socket.MSG_CMSG_CLOEXEC)
    numbers = [memoryview(data)[: len(data) // 4 * 4].cast("i") for _, _, data in ancillary]
    return message, [Descriptor(number) for part in numbers for number in part]
