"""The interpreter in the sandbox. It runs hostile code in its own process: the host believes nothing it says."""

from __future__ import annotations

import ast
import linecache
import os
import resource
import signal
import struct
import sys
import traceback
import types
from collections.abc import Callable
from typing import NoReturn

REQUEST = struct.Struct(">IQ")
"""Number of the cell, length of its source."""
REPLY = struct.Struct(">IBdQII")
"""Number, flags, CPU seconds, peak bytes, length of value + 1 (0: none), length of error."""
FAILED, CUT = 1, 2
ERROR_BYTES = 16 * 1024


def cut_middle(data: bytes, limit: int) -> tuple[bytes, bool]:
    """The head and the tail of what is too long."""
    if len(data) <= limit:
        return data, False
    return data[: limit // 2] + b"\n... cut ...\n" + data[len(data) - limit // 2 :], True


class Interpreter:
    """Reads cells from a socket, runs them in one namespace, answers each with one frame."""

    def __init__(self, control: int, value_bytes: int) -> None:
        self.control = control
        self.value_bytes = value_bytes
        self.process = os.getpid()
        self.running = False
        self.count = 0
        self.outputs = (sys.stdout, sys.stderr)
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        self.names = module.__dict__

    def serve(self) -> NoReturn:
        """Answer until the other side is gone."""
        # A first run touches the pages that every run writes: no cell has to wait for their copies.
        self._run("0")
        self._explain(ValueError())
        self.count = 0
        self._send(REPLY.pack(0, 0, 0.0, 0, 0, 0))
        while True:
            number, length = REQUEST.unpack(self._receive(REQUEST.size))
            self._reply(number, self._receive(length))

    def _reply(self, number: int, source: bytes) -> None:
        signal.signal(signal.SIGINT, self._interrupt)
        value: bytes | None = None
        error, flags = b"", 0
        try:
            try:
                self.running = True
                value = self._run(source.decode("utf-8", "surrogatepass"))
            finally:
                self.running = False
        except BaseException as raised:  # Whatever a cell raises, SystemExit too, is its result.
            self.running = False
            flags = FAILED
            error = self._explain(raised)
        if os.getpid() != self.process:
            os._exit(0)  # A child that the cell forked came back here: it has nothing to answer.
        for stream in (*self.outputs, sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # The cell may have closed or replaced them.
                continue
        if value is not None:
            value, cut = cut_middle(value, self.value_bytes)
            flags |= CUT * cut
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
        peak = max(usage.ru_maxrss for usage in used) * 1024
        header = REPLY.pack(number, flags, seconds, peak, 0 if value is None else len(value) + 1, len(error))
        self._send(header + (value or b"") + error)

    def _run(self, source: str) -> bytes | None:
        self.count += 1
        name = f"<cell {self.count}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        tree = ast.parse(source, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        exec(compile(tree, name, "exec"), self.names)
        if last is None:
            return None
        value = eval(compile(last, name, "eval"), self.names)
        return None if value is None else repr(value).encode("utf-8", "backslashreplace")

    def _explain(self, raised: BaseException) -> bytes:
        try:
            explained = traceback.TracebackException(type(raised), raised, raised.__traceback__, limit=-20)
            frames = [frame for frame in explained.stack if frame.filename != __file__]
            explained.stack = traceback.StackSummary.from_list(frames)
            if not frames:
                explained.stack = None  # type: ignore[assignment]
            text = "".join(explained.format())
        except BaseException:  # An exception's own __str__ may raise anything.
            text = f"{type(raised).__name__} (it cannot be shown)"
        return cut_middle(text.encode("utf-8", "backslashreplace"), ERROR_BYTES)[0]

    def _interrupt(self, signum: int, frame: object) -> None:
        if self.running:
            raise KeyboardInterrupt("time limit")

    def _receive(self, length: int) -> bytes:
        parts = []
        while length:
            part = os.read(self.control, min(length, 1 << 20))
            if not part:
                os._exit(0)
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.control, view) :]


def run_program(arguments: list[str], environment: dict[str, str], complain: Callable[[str], object]) -> NoReturn:
    """Become the program; 127 when it is not there, 126 when it cannot be run, as shells do."""
    try:
        os.execvpe(arguments[0], arguments, environment)
    except FileNotFoundError:
        complain(f"{arguments[0]}: not found\n")
        os._exit(127)
    except (OSError, ValueError) as error:
        complain(f"{arguments[0]}: {error}\n")
        os._exit(126)
