"""Exported episodes on disk: files appear when they are whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from ..episode_store import EpisodeStore
from .atif import episode_to_atif
from .chat import ChatRows


def write_atif(run: str | Path, out: str | Path) -> int:
    """Write the episodes of a run as ATIF; returns how many.

    Args:
        run: The run's folder.
        out: A file that ends in `.jsonl` gets a trajectory a line, anything else is a folder with a file for each, as
            Harbor reads them.

    Raises:
        StoreError: there are no episodes, or they are damaged.
    """
    trajectories = (episode_to_atif(episode) for episode in EpisodeStore(run))
    out = Path(out)
    if out.suffix == ".jsonl":
        return _write_lines(out, trajectories)
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for trajectory in trajectories:
        _write(out / f"{_file_name(trajectory['trajectory_id'])}.json", [json.dumps(trajectory, indent=1)])
        count += 1
    return count


def write_chat(run: str | Path, out: str | Path) -> int:
    """Write the contexts of a run as chat messages, a row a line; returns how many.

    Raises:
        StoreError: there are no episodes, or they are damaged.
        EnvSpecError: the environment, whose instructions the policy read, cannot be made.
    """
    chat = ChatRows()
    return _write_lines(Path(out), (row for episode in EpisodeStore(run) for row in chat.rows(episode)))


def _file_name(trajectory: str) -> str:
    """A name that any file system takes, and that no other id of the run has."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", trajectory).lstrip(".")[:80]
    return safe if safe == trajectory else f"{safe}-{crc32(trajectory.encode(errors='backslashreplace')):08x}"


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            yield json.dumps(row) + "\n"
            count += 1

    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, lines())
    return count


def _write(path: Path, parts: Iterable[str]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="ascii") as file:
            file.writelines(parts)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
