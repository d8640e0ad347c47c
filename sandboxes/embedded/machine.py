"""One tree of processes as the host holds it: its descriptors, what it said, how it ends.

Two channels: `control` to the worker, of which nothing is believed, and `life` to the trusted init.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .cgroups import Group
from .descriptors import Descriptor, close_all, receive
from .inbox import Inbox
from .inside.syscalls import pidfd_kill
from .output import Kept
from .replies import BrokenFrameError, Reply, parse

_CHUNK = 1 << 16


@dataclass(eq=False)
class Machine:
    """A session's processes, or a program's. What it holds is given back by `release` alone."""

    life: socket.socket
    out: int
    err: int
    control: socket.socket | None
    inbox: Inbox
    output_bytes: int
    value_bytes: int
    namespaces: bool
    group: Group | None = None
    """Of its session."""
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
    sent: dict[bytes, list[Descriptor]] = field(default_factory=dict)
    """What init sent last for each command, until somebody takes it."""
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    expected: int | None = 0
    released: bool = False

    def __post_init__(self) -> None:
        self.stdout, self.stderr = Kept(self.output_bytes), Kept(self.output_bytes)
        self._frame = bytearray()
        self._ending = threading.Lock()
        self._held = contextlib.ExitStack()
        self.inbox.add(self.out, lambda: self._read(self.out, self.stdout))
        self.inbox.add(self.err, lambda: self._read(self.err, self.stderr))
        self.inbox.add(self.life.fileno(), self._hear)
        if self.control is not None:
            self.inbox.add(self.control.fileno(), self._converse)

    def own(self, held: contextlib.ExitStack) -> None:
        """From now on what these hold is this machine's to give back."""
        self._held = held

    def pump(self) -> None:
        """Take in what there is, without waiting."""
        self.inbox.pump()

    async def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Take things in until something holds; False when the time is over first."""
        return await self.inbox.wait(done, seconds)

    def settled(self) -> bool:
        """Whether it is known if it was made."""
        return self.ready or self.gone or bool(self.failure)

    def _read(self, descriptor: int, kept: Kept) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if data:
            kept.add(data)
        else:
            self.inbox.forget(descriptor)

    # Init, trusted

    def _hear(self) -> None:
        try:
            message, received = receive(self.life, 8192)
        except BlockingIOError:
            return
        except OSError:
            message, received = b"", []
        kind, body = message[:1], message[1:]
        if kind == b"P":
            self._begin(received)
        elif kind == b"X":
            self.report = json.loads(body)
        elif kind == b"S":
            self.synced = True
        elif kind in (b"N", b"D"):
            close_all(self.sent.pop(kind, []))  # Of somebody who did not wait for the answer.
            self.sent[kind] = received
        elif kind == b"E":
            self.failure = body.decode("utf-8", "replace")
        else:
            self.gone = True
            self.inbox.forget(self.life.fileno())

    def _begin(self, received: list[Descriptor]) -> None:
        """Init exists."""
        if not received:  # The kernel drops what does not fit.
            self.failure = "this process may not open more descriptors: raise its limit, or open fewer sessions"
            return
        handle = self._held.enter_context(received[0]).number
        self.inbox.watch(handle, lambda: self.inbox.forget(handle))  # Who waits for the end is woken by it.
        self.handle, self.process = handle, _process_of(handle)
        self.ready = self.ready or self.control is None

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
            self.inbox.also_writes(descriptor, True)
            return
        except OSError:
            self.pending = memoryview(b"")
            self.broken = True
        self.inbox.also_writes(descriptor, False)

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
            self.inbox.forget(self.control.fileno())
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
            if self.released or (self.namespaces and self.finished()):
                return
            try:
                if self.handle is None:
                    raise ProcessLookupError
                if self.namespaces:
                    pidfd_kill(self.handle)
                else:
                    self._kill_group(self.handle)
            except ProcessLookupError:
                # Not known yet, or no group of its own yet: init ends by itself once it finds the host gone.
                with contextlib.suppress(OSError):
                    self.life.shutdown(socket.SHUT_RDWR)

    def _kill_group(self, handle: int) -> None:
        # Without namespaces an init that somebody else killed takes nothing along.
        try:
            pidfd_kill(handle, group=True)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if not self.finished():  # Its number may be another's afterwards; the template has killed the group then.
                os.killpg(self.process, signal.SIGKILL)

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
        if self.handle is None and not self.gone:
            await self.wait(lambda: self.handle is not None or self.gone, 5.0)
        self.kill()
        if self.handle is not None:
            await self.wait(self.finished, 10.0)

    def release(self) -> None:
        """Give back all that it holds: descriptors, and a session's control group and folder. Again is no error."""
        with self._ending:
            if self.released:
                return
            self.released = self.gone = True
        with self._held:
            for command in list(self.sent):
                close_all(self.sent.pop(command))


def _process_of(handle: int) -> int:
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pid:")), 0)
