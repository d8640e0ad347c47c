"""An index of a run's episodes, built line by line while the run may still be growing."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .lines import GrowingFile, Line, read_bytes
from .query import Progress, Query, ViewerError
from .spool import Spool
from .summary import Flag, Summary, damaged, fold, summarise
from .trace import DamagedLine, Trace, read_line

EPISODES = "episodes.jsonl"
_MOST_SCORES = 24
_LOOK_EVERY = 0.5
"""Seconds between two looks at the file."""


class RunIndex:
    """The episodes of one folder; a thread of its own reads the file and looks for new lines.

    What is kept of a line is some fifty bytes; its short texts go to a file without a name.

    Args:
        folder: The folder with `episodes.jsonl`.
        name: What people call it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._file = GrowingFile(folder / EPISODES)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._failure: str | None = None
        self._generation = -1
        self._begin()
        self._thread = threading.Thread(target=self._follow, name=f"index {name}", daemon=True)
        self._started = False

    def _begin(self) -> None:
        self._generation += 1
        self._columns: dict[str, array[Any]] = {
            name: array(kind)
            for name, kind in {
                "offset": "Q", "length": "Q", "flags": "H", "reward": "f", "tokens": "Q", "turns": "I",
                "difficulty": "f", "task": "Q",
            }.items()
        }  # fmt: skip
        self._scores: dict[str, array[float]] = {}
        self._cards, self._searched = Spool(), Spool()
        self._faults: dict[str, int] = {}
        self._counts = {Flag.DAMAGED: 0, Flag.UNSOUND: 0}

    def start(self) -> None:
        """Begin to read, once."""
        with self._lock:
            if self._started:
                return
            self._started = True
        self._thread.start()

    def close(self) -> None:
        """Stop reading and free the files."""
        self._stop.set()
        if self._started:
            self._thread.join()
        self._cards.close()
        self._searched.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until everything that was there has been read; False when the time is over before."""
        return self._done.wait(seconds)

    def progress(self) -> Progress:
        """How far it is."""
        with self._lock:
            left = self._file.size - self._file.position
            reading = not self._done.is_set()
            problems = [self._failure] if self._failure else []
            if not reading and left > 0 and not self._failure:
                problems.append(
                    f"the last line is not finished ({left:,} bytes): its writer was killed or is still writing"
                )
            return Progress(
                lines=len(self._columns["flags"]),
                read_bytes=self._file.position,
                file_bytes=self._file.size,
                reading=reading,
                damaged=self._counts[Flag.DAMAGED],
                unsound=self._counts[Flag.UNSOUND],
                problems=tuple(problems),
                generation=self._generation,
            )

    def score_names(self) -> list[str]:
        """Names of the scores that can be filtered by."""
        with self._lock:
            return ["reward", *self._scores]

    def find(self, query: Query) -> NDArray[np.int64]:
        """Numbers of the lines that a query asks for, in its order.

        Raises:
            ViewerError: there is no such score or order.
        """
        with self._lock:
            flags = self._copy("flags")
            count = len(flags)
            keep = (flags & int(query.flags)) == int(query.flags)
            if not query.flags & (Flag.FAULT | Flag.RETRIED):
                keep &= (flags & int(Flag.RETRIED)) == 0
            if query.low is not None or query.high is not None:
                values = self._copy(query.score) if query.score == "reward" else self._score(query.score)
                # What the columns hold is rounded to single precision, and so is what it is compared with.
                keep &= (flags & int(Flag.DAMAGED)) == 0
                keep &= values >= np.float32(-math.inf if query.low is None else query.low)
                keep &= values <= np.float32(math.inf if query.high is None else query.high)
            if query.task_id is not None:
                keep &= self._copy("task") == _hash(query.task_id)
            order = query.sort.removeprefix("-")
            keys = None
            if order != "line":
                if order not in ("reward", "tokens", "turns", "difficulty"):
                    raise ViewerError(f"cannot sort by {order!r}: expected line, reward, tokens, turns or difficulty")
                keys = self._copy(order).astype(np.float64)
            for word in fold(query.search).split():
                hits = np.zeros(count, bool)
                hits[[n for n in self._searched.containing(word.encode("utf-8", "replace")) if n < count]] = True
                keep &= hits
        found = np.flatnonzero(keep)
        if keys is None:
            return found[::-1] if query.sort.startswith("-") else found
        values = keys[found]
        return found[np.argsort(-values if query.sort.startswith("-") else values, kind="stable")]

    def card(self, line: int) -> dict[str, Any]:
        """What the list shows of a line.

        Raises:
            ViewerError: there is no such line.
        """
        with self._lock:
            self._check(line)
            card: dict[str, Any] = json.loads(self._cards[line])
            card["line"] = line
            card["flags"] = [flag.name.lower() for flag in Flag(self._columns["flags"][line]) if flag.name]
            for name in ("reward", "tokens", "turns", "difficulty"):
                value = self._columns[name][line]
                card[name] = None if isinstance(value, float) and math.isnan(value) else value
            card["scores"] = {
                name: round(values[line], 6) for name, values in self._scores.items() if not math.isnan(values[line])
            }
            return card

    def place(self, line: int) -> tuple[int, int]:
        """First byte and length of a line.

        Raises:
            ViewerError: there is no such line.
        """
        with self._lock:
            self._check(line)
            return self._columns["offset"][line], self._columns["length"][line]

    def trace(self, line: int) -> Trace:
        """The episode of a line.

        Raises:
            DamagedLine: nothing of it can be shown.
            ViewerError: there is no such line, or the file cannot be read any more.
        """
        offset, length = self.place(line)
        try:
            data = read_bytes(self._file.path, offset, length)
        except OSError as error:
            raise ViewerError(f"{self._file.path} cannot be read: {error.strerror}") from error
        return read_line(data)

    def _check(self, line: int) -> None:
        lines = len(self._columns["flags"])
        if not 0 <= line < lines:
            raise ViewerError(f"{self.name} has no line {line + 1}: {lines:,} are read")

    def _copy(self, name: str) -> NDArray[Any]:
        column = self._columns[name]
        return np.array(column, dtype=column.typecode)

    def _score(self, name: str) -> NDArray[Any]:
        if name not in self._scores:
            raise ViewerError(f"no score {name[:80]!r} in {self.name}: it has {', '.join(['reward', *self._scores])}")
        return np.array(self._scores[name], "f")

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._read_new()
                self._failure = None
            except OSError as error:
                self._failure = f"{error.filename or self._file.path}: {error.strerror}"
            self._done.set()
            self._stop.wait(_LOOK_EVERY)

    def _read_new(self) -> None:
        with self._lock:
            if self._file.replaced():
                self._cards.close()
                self._searched.close()
                self._begin()
            if self._file.size <= self._file.position:
                return
        for line in self._file.new_lines():
            summary = _summary(line)
            with self._lock:
                self._add(line, summary)
            if self._stop.is_set():
                return

    def _add(self, line: Line, summary: Summary) -> None:
        columns = self._columns
        number = len(columns["flags"])
        columns["offset"].append(line.offset)
        columns["length"].append(line.length)
        columns["flags"].append(int(summary.flags))
        columns["reward"].append(_single(summary.reward))
        columns["tokens"].append(min(summary.tokens, 1 << 63))
        columns["turns"].append(summary.turns)
        columns["difficulty"].append(math.nan if summary.difficulty is None else _single(summary.difficulty))
        columns["task"].append(_hash(summary.task_id))
        self._add_scores(number, summary.scores or {})
        card = {
            "id": summary.id, "prompt": summary.prompt, "answer": summary.answer, "stop_reason": summary.stop_reason
        }  # fmt: skip
        self._cards.append(json.dumps(card).encode("ascii"))
        self._searched.append(f"{summary.searched}\n".encode("utf-8", "replace"))
        for flag in self._counts:
            self._counts[flag] += flag in summary.flags
        if (earlier := self._faults.pop(summary.id, None)) is not None:
            columns["flags"][earlier] |= int(Flag.RETRIED)
        if Flag.FAULT in summary.flags:
            self._faults[summary.id] = number

    def _add_scores(self, number: int, scores: dict[str, float]) -> None:
        for name in scores:
            if name not in self._scores and len(self._scores) < _MOST_SCORES and name != "reward":
                self._scores[name] = array("f", [math.nan]) * number
        for name, values in self._scores.items():
            values.append(_single(scores[name]) if name in scores else math.nan)


def _summary(line: Line) -> Summary:
    try:
        return summarise(read_line(line.data))
    except DamagedLine as error:
        return damaged(line.data, str(error))


def _single(value: float) -> float:
    """The value, as near as single precision comes."""
    return max(-3e38, min(3e38, value))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
