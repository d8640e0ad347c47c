"""One run as the supervisor sees it: descriptors to serve, an answer to wait for."""

from __future__ import annotations

import os
import select
import signal
from typing import Any

from .capture import Capture
from .frames import Broken, FrameParser


class Job:
    """A cell in the worker, or a program below its runner: both are sent bytes and answer with one frame."""

    def __init__(
        self,
        *,
        identifier: int,
        process: int,
        stop_signal: signal.Signals,
        stdout: Capture,
        stderr: Capture,
        send: int,
        data: bytes,
        reply: int,
        parser: FrameParser,
        is_cell: bool,
    ) -> None:
        """`send` and `reply` are one descriptor for cells; all are non-blocking."""
        self.process = process
        self.stdout = stdout
        self.stderr = stderr
        self.done = False
        self.lost = False
        """Whether the session cannot go on after this."""
        self.exit_code: int | None = None
        self.value: bytes | None = None
        self.error = b""
        self._identifier = identifier
        self._stop_signal = stop_signal
        self._send = send
        self._data = memoryview(data)
        self._reply = reply
        self._parser = parser
        self.is_cell = is_cell
        self._status = "killed"
        self._value_cut = False
        self._send_open = True

    def register(self, poll: select.poll) -> None:
        """Watch everything the job has."""
        for stream in (self.stdout, self.stderr):
            poll.register(stream.descriptor, select.POLLIN)
        poll.register(self._reply, select.POLLIN)
        if self._data or not self.is_cell:
            poll.register(self._send, select.POLLOUT | (select.POLLIN if self.is_cell else 0))

    def serve(self, poll: select.poll, descriptor: int) -> bool:
        """Do what a descriptor is ready for; False when the job has broken the rules."""
        for stream in (self.stdout, self.stderr):
            if descriptor == stream.descriptor:
                if not stream.read():
                    poll.unregister(descriptor)
                return True
        if descriptor == self._send and self._send_open and (self._data or not self.is_cell):
            self._write(poll)
            if not self.is_cell:
                return True
        if descriptor == self._reply:
            return self._take()
        return True

    def answered(self) -> bool:
        """Whether the answer is there, also when it came just before the process ended."""
        if not self.done:
            self._take()
        return self.done

    def interrupt(self) -> None:
        """Ask it to stop; it may decline."""
        try:
            os.kill(self.process, self._stop_signal)
        except ProcessLookupError:
            return

    def drain(self) -> None:
        """Take what is still in the pipes, of which there may be no end."""
        for stream in (self.stdout, self.stderr):
            for _ in range(64):
                if not stream.read():
                    break

    def status(self, out_of_memory: bool) -> str:
        """How it ended by itself."""
        if not self.is_cell and self._status != "ok" and out_of_memory:
            return "memory"
        return self._status

    @property
    def cut(self) -> bool:
        """Whether anything was cut."""
        return self.stdout.cut or self.stderr.cut or self._value_cut

    def close(self) -> None:
        """Close what is the job's own."""
        if not self.is_cell:
            for descriptor in (self.stdout.descriptor, self.stderr.descriptor, self._reply):
                os.close(descriptor)
            if self._send_open:
                os.close(self._send)

    def _write(self, poll: select.poll) -> None:
        try:
            self._data = self._data[os.write(self._send, self._data[:65536]) :]
        except BlockingIOError:
            return
        except OSError:
            self._data = self._data[:0]
        if self._data:
            return
        if self.is_cell:
            poll.modify(self._send, select.POLLIN)
        else:
            poll.unregister(self._send)
            os.close(self._send)
            self._send_open = False

    def _take(self) -> bool:
        try:
            part = os.read(self._reply, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not part:
            return False
        try:
            message = self._parser.feed(part)
            if message is not None:
                self._understand(*message)
                self.done = True
        except (Broken, KeyError, TypeError, ValueError):
            return False
        return True

    def _understand(self, header: dict[str, Any], body: bytes) -> None:
        if header["id"] != self._identifier:
            raise Broken("an answer to something else")
        if self.is_cell:
            length = header["value"]
            if header["status"] not in ("ok", "error"):
                raise Broken("no status")
            self._status = header["status"]
            self._value_cut = header["cut"] is True
            if length is None:
                self.error = body
            else:
                self.value = body[: int(length)]
        elif "failure" in header:
            self._status, self.error, self.exit_code = "error", str(header["failure"]).encode(), 126
        elif header["code"] is None:
            self._status = "killed"
        else:
            code = int(header["code"])
            if os.WIFSIGNALED(code):
                self._status, self.error = "killed", b"ended by signal %d" % os.WTERMSIG(code)
            else:
                self.exit_code = os.WEXITSTATUS(code)
                self._status = "ok" if self.exit_code == 0 else "error"
