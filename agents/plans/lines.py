"""Files of one JSON row a line that are only ever appended to, and that survive the death of the process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ...envs.json_schema import first_violation, published_validator
from .errors import PlanError


def read_lines(
    path: Path, schema: str, is_sound: Callable[[dict[str, Any]], bool]
) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """Each line of a file: its number, its row or None, and what is wrong with it or "".

    A last line that a killed writer left unfinished is left out: nobody was told that it was written.

    Args:
        path: The file; a missing one has no lines.
        schema: Name of the schema of its rows.
        is_sound: Whether a row is plainly valid. If not, the validator has the last word: it takes a millisecond a row,
            which is half a minute for the reviews of ten thousand plans.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row, problem = _read(line, schema, is_sound)
            if row is None and not line.endswith(b"\n"):
                return
            yield number, row, f"{path}, line {number}: {problem}" if problem else ""


def _read(line: bytes, schema: str, is_sound: Callable[[dict[str, Any]], bool]) -> tuple[dict[str, Any] | None, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    expected = f"forethought/{schema}/1"
    if isinstance(row, dict) and row.get("schema") != expected:
        return None, f"expected a row of the schema {expected}, found {row.get('schema')!r}"
    if isinstance(row, dict) and is_sound(row):
        return row, ""
    violation = first_violation(published_validator(schema, "forethought.agents"), row)
    return (None, f"not a row of the schema {schema}: {violation}") if violation else (row, "")


class LineWriter:
    """Appends rows to a file; the only writer there is.

    Args:
        path: The file; it and its folder are made when there are none. What a killed writer left of a last line is cut.

    Raises:
        PlanError: another process writes to it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own: such a lock is lost when its process closes the file anywhere, after reading it say.
        self._lock = open(path.with_name(f".{path.name}.lock"), "ab")  # noqa: SIM115
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._lock.close()
            raise PlanError(f"another process is writing to {path}: stop it, or use its page") from None
        self._file: IO[bytes] = open(path, "r+b" if path.exists() else "x+b", buffering=0)  # noqa: SIM115
        self._end = self._whole()
        self._file.truncate(self._end)
        self._file.seek(self._end)
        _sync_folder(path.parent)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; once this returns it survives the death of the process and of the machine.

        Raises:
            OSError: the disk is full or gone; everything appended before is kept, and nothing of this row.
        """
        data = memoryview(json.dumps(row, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n")
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            raise
        self._end += written

    def close(self) -> None:
        """Close the file, which frees it for other writers."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _whole(self) -> int:
        """Bytes up to the end of the last whole row; a row that only lacks its line feed is given one."""
        end, line = 0, b"\n"
        with self.path.open("rb") as file:
            for line in file:
                end += len(line)
        if line.endswith(b"\n"):
            return end
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return end - len(line)
        self._file.seek(end)
        self._file.write(b"\n")
        return end + 1


def _sync_folder(folder: Path) -> None:
    """Have the disk remember that the file exists."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
