"""The watcher: where no control group counts a whole tree, a thread does, and it holds the CPU limit everywhere.

Every process of a session descends from its init. Resident pages are summed; only when the sum, which counts shared
pages once per process, passes the limit are the proportional sizes read. Below it, the kernel's own limits per process
are the hard bound.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL = 0.02
_LINGER = 5.0
_SLOW = 10
"""CPU time and folders change slowly: they are looked at every so many rounds."""


@dataclass
class Watched:
    """What to hold for one session; `None` where something else does."""

    roots: Callable[[], list[int]]
    """Its init processes at present."""
    stop: Callable[[str, str], None]
    """Called with the kind of limit and a sentence."""
    cpu_seconds: float
    cpu_used: Callable[[], float | None] = lambda: None
    """From a control group; else processes are asked."""
    memory_bytes: int | None = None
    processes: int | None = None
    folder: Path | None = None
    disk_bytes: int = 0
    inodes: int = 0


class Watcher:
    """One thread for all sessions of a sandbox; it ends when there is nothing to watch for a while."""

    def __init__(self) -> None:
        self._items: dict[int, Watched] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._added = threading.Event()

    def add(self, item: Watched) -> None:
        """Watch a session from now on."""
        with self._lock:
            self._items[id(item)] = item
            self._added.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox-watcher", daemon=True)
                self._thread.start()

    def remove(self, item: Watched) -> None:
        """Watch it no more."""
        with self._lock:
            self._items.pop(id(item), None)

    def _run(self) -> None:
        count = 0
        while True:
            with self._lock:
                items = list(self._items.values())
                if not items:
                    self._added.clear()
            if not items:
                # Starting a thread costs more than a cell: this one waits a while for the next session.
                if not self._added.wait(_LINGER):
                    with self._lock:
                        if not self._items:
                            self._thread = None
                            return
                continue
            count += 1
            for item in items:
                found = _check(item, slow=count % _SLOW == 0)
                if found:
                    item.stop(*found)
            time.sleep(_INTERVAL)


def _check(item: Watched, *, slow: bool) -> tuple[str, str] | None:
    if item.memory_bytes is not None or item.processes is not None:
        tree = list(_tree(item.roots()))
        if item.processes is not None and sum(len(tasks) for _, tasks in tree) > item.processes + 1:
            return "killed", f"it started more than {item.processes} processes and threads"
        if item.memory_bytes is not None:
            used = sum(_resident(process) for process, _ in tree)
            if used > item.memory_bytes and sum(_proportional(process) for process, _ in tree) > item.memory_bytes:
                return "memory", f"it used more than {item.memory_bytes} bytes of memory"
    if not slow:
        return None
    used_cpu = item.cpu_used()
    if used_cpu is None:
        used_cpu = sum(_cpu(process) for process, _ in _tree(item.roots()))
    if used_cpu > item.cpu_seconds:
        return "timeout", f"it used more than {item.cpu_seconds} seconds of CPU time"
    if item.folder is not None and _too_much(item.folder, item.disk_bytes, item.inodes):
        return "killed", f"it wrote more than {item.disk_bytes} bytes or {item.inodes} files"
    return None


def _tree(roots: list[int]) -> Iterator[tuple[int, list[str]]]:
    """Processes below the roots (and the roots), with their threads."""
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        try:
            tasks = os.listdir(f"/proc/{process}/task")
            for task in tasks:
                with open(f"/proc/{process}/task/{task}/children", "rb") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            continue
        yield process, tasks


def _resident(process: int) -> int:
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(process: int) -> int:
    try:
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except OSError:
        return _resident(process)


def _cpu(process: int) -> float:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    except (OSError, IndexError):
        return 0.0


def _too_much(folder: Path, size: int, inodes: int) -> bool:
    waiting, count, used = [os.fspath(folder)], 0, 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if count > inodes or used > size:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return False
