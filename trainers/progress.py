"""What a person sees while a run goes on: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO


class Progress:
    """Prints progress.

    Args:
        stream: Where to; a terminal gets one line that is rewritten, anything else a line every `every` seconds.
        every: Seconds between the lines of a stream that is no terminal.
        prefix: Put before every line, to tell processes apart. They share the terminal, so none rewrites its line.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0, prefix: str = "") -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty() and not prefix
        self._every = every
        self._prefix = prefix
        self._last = 0.0
        self._open = False

    def note(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        self._stream.write(f"{self._prefix}{text}\n")
        self._stream.flush()

    def update(self, text: str) -> None:
        """A line that the next one replaces."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{text[:width]}")
            self._stream.flush()
            self._open = True
        elif time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self.note(text)

    def counter(self, what: str, total: int) -> Counter:
        """Counts to `total`, with the time that is left."""
        return Counter(self, what, total)

    def _clear(self) -> None:
        if self._open:
            self._stream.write("\r\x1b[2K")
            self._open = False


class Counter:
    """Counts things that were done."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._what = what
        self._total = total
        self._started = time.monotonic()
        self._first: int | None = None

    def show(self, done: int, detail: str = "") -> None:
        """`done` of the total are done."""
        if self._first is None:
            self._first, self._started = done, time.monotonic()
        seconds = time.monotonic() - self._started
        line = f"{self._what}  {done}/{self._total}"
        if detail:
            line += f"  {detail}"
        if done > self._first and done < self._total:
            left = seconds / (done - self._first) * (self._total - done)
            line += f"  {duration(left)} left"
        self._progress.update(line)


def duration(seconds: float) -> str:
    """`1:05` or `2:00:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
