"""One tree of processes as the host holds it: its descriptors, what it said, how it ends.

Two channels: `control` to the worker, of which nothing is believed, and `life` to the trusted init. All descriptors sit
in one epoll, which any event loop can watch, and only while somebody waits.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .cgroups import Group
from .inside.erase import erase
from .inside.syscalls import pidfd_kill
from .output import Kept
from .replies import BrokenFrameError, Reply, parse

MAX_DESCRIPTORS = 8
_CHUNK = 1 << 16


@dataclass
class Machine:
    """A session's processes, or a program's."""

    life: socket.socket
    out: int
    err: int
    control: socket.socket | None
    output_bytes: int
    value_bytes: int
    namespaces: bool
    group: Group | None = None
    folder: str | None = None
    """On the host, where there are no namespaces."""
    user: int | None = None
    """As whom the host must touch the session's files."""
    template_lives: Callable[[], bool] = lambda: True
    """Whether what forked it, and takes it along when it dies, is still there."""

    handle: int | None = None
    process: int = 0
    ready: bool = False
    gone: bool = False
    """Init has ended, and with it everything."""
    failure: str = ""
    report: dict[str, float] | None = None
    reply: Reply | None = None
    broken: bool = False
    synced: bool = False
    stopped: tuple[str, str] | None = None
    """Why the host ended it: kind and sentence."""
    sent: list[int] = field(default_factory=list)
    """Descriptors that init sent last."""
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    expected: int | None = 0
    released: bool = False

    def __post_init__(self) -> None:
        self.stdout, self.stderr = Kept(self.output_bytes), Kept(self.output_bytes)
        self._frame = bytearray()
        self._ending = threading.Lock()
        self._epoll = select.epoll()
        self._waiting: list[Callable[[], None]] = []
        self._sinks: dict[int, Callable[[], None]] = {
            self.out: lambda: self._read(self.out, self.stdout),
            self.err: lambda: self._read(self.err, self.stderr),
            self.life.fileno(): self._hear,
        }
        if self.control is not None:
            self._sinks[self.control.fileno()] = self._converse
        for descriptor in self._sinks:
            os.set_blocking(descriptor, False)
            self._epoll.register(descriptor, select.EPOLLIN)

    # Waiting

    def pump(self) -> None:
        """Take in what there is, without waiting."""
        if self.released:
            return
        for descriptor, _ in self._epoll.poll(0):
            sink = self._sinks.get(descriptor)
            if sink is not None:
                sink()

    async def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Take things in until something holds; False when the time is over first."""
        self.pump()
        if done() or self.released:
            return done()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()

        def woken() -> None:
            self.pump()
            if (done() or self.released) and not future.done():
                future.set_result(done())

        def late() -> None:
            if not future.done():
                future.set_result(done())

        timer = loop.call_later(max(0.0, seconds), late)
        watched = self._epoll.fileno()
        loop.add_reader(watched, woken)

        def give_up() -> None:
            loop.remove_reader(watched)
            woken()

        self._waiting.append(give_up)
        try:
            return await future
        finally:
            self._waiting.remove(give_up)
            timer.cancel()
            if not self.released:
                loop.remove_reader(watched)

    def _forget(self, descriptor: int) -> None:
        if self._sinks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _read(self, descriptor: int, kept: Kept) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if data:
            kept.add(data)
        else:
            self._forget(descriptor)

    # Init, trusted

    def _hear(self) -> None:
        try:
            message, ancillary, _, _ = self.life.recvmsg(8192, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
        except BlockingIOError:
            return
        except OSError:
            message, ancillary = b"", []
        received = array.array("i")
        for _, _, data in ancillary:
            received.frombytes(data)
        kind, body = message[:1], message[1:]
        if kind == b"P":
            self.handle = received[0]
            self.process = _process_of(self.handle)
            self.ready = self.ready or self.control is None
        elif kind == b"X":
            self.report = json.loads(body)
        elif kind == b"S":
            self.synced = True
        elif kind in (b"N", b"D"):
            self.sent = list(received)
        elif kind == b"E":
            self.failure = body.decode("utf-8", "replace")
        else:
            self.gone = True
            self._forget(self.life.fileno())

    def tell(self, command: bytes) -> None:
        """A command to init; one that is gone does not hear it."""
        try:
            self.life.send(command)
        except OSError:
            self.pump()

    # The worker, not trusted

    def send(self, number: int, data: bytes) -> None:
        """Begin to send a cell; the reply with this number is awaited."""
        self.expected, self.reply = number, None
        self.pending = memoryview(data)
        self._flush()

    def _flush(self) -> None:
        assert self.control is not None
        descriptor = self.control.fileno()
        try:
            while self.pending:
                self.pending = self.pending[self.control.send(self.pending) :]
        except BlockingIOError:
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError:
            self.pending = memoryview(b"")
            self.broken = True
        if descriptor in self._sinks:
            self._epoll.modify(descriptor, select.EPOLLIN)

    def _converse(self) -> None:
        assert self.control is not None
        if self.pending:
            self._flush()
        try:
            data = self.control.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(self.control.fileno())
            self.broken = True
            return
        self._frame += data
        if not self.broken:
            self._parse()

    def _parse(self) -> None:
        try:
            parsed = parse(self._frame, self.expected, self.value_bytes)
        except BrokenFrameError:
            self.broken = True
            return
        if parsed is None:
            return
        self._frame.clear()
        self.ready = True
        self.reply = parsed if self.expected else None
        self.expected = None

    # The end

    def kill(self) -> None:
        """End every process of it. Returns at once; `finished` says when nothing is left."""
        with self._ending:  # The watcher kills from its thread.
            if self.finished():
                return
            try:
                if self.handle is None:
                    raise ProcessLookupError
                if self.namespaces:
                    pidfd_kill(self.handle)
                else:
                    os.killpg(self.process, signal.SIGKILL)
            except ProcessLookupError:
                # Not known yet, or no group of its own yet: init ends by itself once it finds the host gone.
                with contextlib.suppress(OSError):
                    self.life.shutdown(socket.SHUT_RDWR)

    def stop(self, kind: str, sentence: str) -> None:
        """End it for a reason."""
        if self.stopped is None:
            self.stopped = kind, sentence
        self.kill()

    def finished(self) -> bool:
        """Whether all processes are gone."""
        if self.released:
            return True
        if self.handle is None:
            return self.gone
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(0))

    async def end(self) -> None:
        """Kill, and wait until nothing is left."""
        if self.released:
            return
        if self.handle is None and not self.gone:
            await self.wait(lambda: self.handle is not None or self.gone, 5.0)
        self.kill()
        if self.handle is None or self.finished():
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.handle, lambda: None if future.done() else future.set_result(None))
        try:
            await asyncio.wait_for(future, 10.0)
        except TimeoutError:
            return
        finally:
            loop.remove_reader(self.handle)

    def release(self) -> None:
        """Give back descriptors, control group and folder of one that is finished."""
        with self._ending:
            if self.released:
                return
            self.released = self.gone = True
        # Whoever still waits here (a run whose session is closed) must not wait for a descriptor of somebody else.
        for give_up in self._waiting:
            give_up()
        self._epoll.close()
        for descriptor in (self.out, self.err, *self.sent, *([] if self.handle is None else [self.handle])):
            os.close(descriptor)
        self.sent = []
        self.life.close()
        if self.control is not None:
            self.control.close()
        if self.group is not None:
            self.group.remove()
        if self.folder is not None:
            erase(self.folder)


def _process_of(handle: int) -> int:
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pid:")), 0)
