"""The interpreter that runs cells: foreign code lives here, so nothing it says is believed but its own value."""

from __future__ import annotations

import ast
import io
import linecache
import os
import signal
import sys
import traceback
import types
from typing import Any

from .frames import Broken, frame, read_exactly, read_header, write_all

MAX_ERROR = 16 * 1024


class Worker:
    """Runs cells in one namespace, one after the other."""

    def __init__(self, control: int, value_bytes: int) -> None:
        """Streams 0, 1 and 2 are in place; `control` is the socket to the supervisor."""
        self._control = control
        self._value_bytes = value_bytes
        self._pid = os.getpid()
        self._cell = 0
        self._busy = False
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = main
        self._names = main.__dict__
        sys.path.insert(0, os.getcwd())
        sys.argv = [""]
        sys.stdin, sys.stdout, sys.stderr = _text_stream(0, "r"), _text_stream(1, "w"), _text_stream(2, "w")

    def serve(self) -> None:
        """Answer until the supervisor goes away."""
        while True:
            signal.signal(signal.SIGINT, self._interrupted)
            try:
                header, length = read_header(self._control)
                code = read_exactly(self._control, length)
            except (Broken, OSError):
                os._exit(0)
            status, value, error, cut = self._answer(code)
            if os.getpid() != self._pid:
                os._exit(0)  # a fork that a cell made has come to the cell's end: it must not answer for its parent
            reply = {"id": header["id"], "status": status, "value": None if value is None else len(value), "cut": cut}
            try:
                write_all(self._control, frame(reply, (value or b"") + error))
            except OSError:
                os._exit(0)

    def _interrupted(self, number: int, stack: object) -> None:
        # The supervisor's signal may arrive when the cell has just ended: it must not hit the next one.
        if self._busy:
            raise KeyboardInterrupt

    def _answer(self, code: bytes) -> tuple[str, bytes | None, bytes, bool]:
        value: bytes | None = None
        error = b""
        try:
            self._busy = True
            try:
                result = self._run(code)
                if result is not None:
                    value = repr(result).encode("utf-8", "backslashreplace")
                    del result
            except BaseException as exception:
                error = _describe(exception)
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:
                    continue
            self._busy = False
        except BaseException:
            self._busy = False
            error = error or b"KeyboardInterrupt"
        if error:
            return "error", None, error, False
        if value is not None and len(value) > self._value_bytes:
            return "ok", value[: self._value_bytes], b"", True
        return "ok", value, b"", False

    def _run(self, code: bytes) -> Any:
        self._cell += 1
        name = f"<cell {self._cell}>"
        text = code.decode("utf-8", "surrogatepass")
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        tree = ast.parse(text, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), self._names)
        if not isinstance(last, ast.Expr):
            return None
        return eval(compile(ast.Expression(last.value), name, "eval"), self._names)


def _text_stream(descriptor: int, mode: str) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, mode, closefd=False)
    buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _describe(exception: BaseException) -> bytes:
    trace = exception.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(exception), exception, trace))
    except Exception:
        text = type(exception).__name__
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_ERROR:
        data = data[: MAX_ERROR // 2] + b"\n...\n" + data[-MAX_ERROR // 2 :]
    return data
