"""What comes in on several descriptors: they sit in one epoll, which any event loop can watch while somebody waits."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable


class Inbox:
    """Calls a sink whenever its descriptor can be read. It owns its epoll, not the descriptors."""

    def __init__(self) -> None:
        self.closed = False
        self._epoll = select.epoll()
        self._sinks: dict[int, Callable[[], None]] = {}
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[bool]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of those who wait."""

    def add(self, descriptor: int, sink: Callable[[], None]) -> None:
        """Listen to a descriptor, which must not block."""
        os.set_blocking(descriptor, False)
        self.watch(descriptor, sink)

    def watch(self, descriptor: int, sink: Callable[[], None]) -> None:
        """Listen to a descriptor that cannot be set to not block."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._sinks[descriptor] = sink

    def forget(self, descriptor: int) -> None:
        """Listen to it no more."""
        if self._sinks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def also_writes(self, descriptor: int, wanted: bool) -> None:
        """Whether its sink is called when it can be written to, too."""
        if descriptor in self._sinks:
            self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def pump(self) -> None:
        """Take in what there is, without waiting."""
        if self.closed:
            return
        for descriptor, _ in self._epoll.poll(0):
            sink = self._sinks.get(descriptor)
            if sink is not None:
                sink()

    async def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Take things in until something holds; False when the time is over, or this is closed, first."""
        self.pump()
        if done() or self.closed:
            return done()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()

        def late() -> None:
            if not future.done():
                future.set_result(done())

        timer = loop.call_later(max(0.0, seconds), late)
        waiter = (done, future)
        self._waiting.append(waiter)
        if self._loop is not loop:
            self._loop = loop
            loop.add_reader(self._epoll.fileno(), self._woken)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.remove(waiter)
            if not self._waiting:
                self._leave_loop()

    def _woken(self) -> None:
        self.pump()
        self._answer()

    def _answer(self) -> None:
        for done, future in self._waiting:
            if not future.done() and (done() or self.closed):
                future.set_result(done())

    def _leave_loop(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None

    def close(self) -> None:
        """Nobody waits any more: whoever still does must not wait for a descriptor of somebody else."""
        if self.closed:
            return
        self._leave_loop()
        self.closed = True
        self._answer()
        self._epoll.close()
