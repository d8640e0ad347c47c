"""Which runs there are in the folders that somebody wants to look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from .index import EPISODES, RunIndex
from .query import ViewerError

_MOST_RUNS = 500
_LOOK_EVERY = 5.0
"""Seconds between two looks for new parts."""


class RunSet:
    """Every part with episodes of every run, no two of one name; parts that a running recipe adds join at the end.

    Args:
        folders: Folders of runs, or of what recipes wrote.

    Raises:
        ViewerError: in one of them there is nothing to see.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.runs: list[RunIndex] = []
        self._folders = list(folders)
        self._known: set[Path] = set()
        self._lock = threading.Lock()
        self._add([(folder, name, path) for folder in self._folders for name, path in find_runs(folder)])
        self._looked = time.monotonic()

    def look(self) -> None:
        """Look for new parts, unless somebody just did."""
        with self._lock:
            if time.monotonic() - self._looked < _LOOK_EVERY:
                return
            found = []
            for folder in self._folders:
                try:
                    found += [(folder, name, path) for name, path in find_runs(folder)]
                except ViewerError:  # deleted meanwhile; its index says so
                    continue
            self._add(found)
            self._looked = time.monotonic()

    def close(self) -> None:
        """Close all indices."""
        for run in self.runs:
            run.close()

    def _add(self, found: list[tuple[Path, str, Path]]) -> None:
        new = {path: (folder, name) for folder, name, path in found if path not in self._known}
        names = [name for _, name in new.values()] + [run.name for run in self.runs]
        for path, (folder, name) in new.items():
            if names.count(name) > 1:
                name = str(folder) if path == folder else f"{folder}: {name}"
            self.runs.append(RunIndex(path, name))
            self._known.add(path)


def find_runs(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of everything with episodes in a run's folder: itself, or parts of it.

    Raises:
        ViewerError: there is nothing, or no such folder.
    """
    if not folder.is_dir():
        raise ViewerError(f"no run at {folder}: expected a folder with {EPISODES}")
    if (folder / EPISODES).exists():
        return [(folder.resolve().name or str(folder), folder)]
    found = sorted(path.parent for path in folder.rglob(EPISODES))[:_MOST_RUNS]
    if not found:
        raise ViewerError(f"no episodes in {folder}: expected a file {EPISODES}, in it or in a folder below")
    return [(str(path.relative_to(folder)), path) for path in found]
