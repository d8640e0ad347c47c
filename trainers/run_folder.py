"""A run's folder: the resolved recipe, and which stages are done from which inputs."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..agents.episode import Status
from ..agents.episode_store import EpisodeStore
from .recipe import Recipe
from .toml_tables import ConfigError


class RunFolder:
    """The folder of one run.

    A stage is done when its `done.json` is there; it holds a hash of everything that the stage was made from, so that
    nothing stale is ever taken for the result of a changed recipe.

    Args:
        recipe: The recipe.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.path = recipe.folder
        self._recipe = recipe

    def save_recipe(self) -> None:
        """Write the resolved recipe, which can be run again as it is."""
        import tomli_w

        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.resolved_recipe, tomli_w.dumps(self._recipe.to_tables()))

    @property
    def resolved_recipe(self) -> Path:
        """The file of the resolved recipe."""
        return self.path / "recipe.resolved.toml"

    def check_stage(self, name: str, inputs: Any) -> str:
        """The hash that a stage with these inputs has.

        Raises:
            ConfigError: the folder holds the result of other inputs.
        """
        folder = self.path / name
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True, default=str).encode()).hexdigest()[:16]
        for marker in (folder / "done.json", folder / "begun.json"):
            if marker.exists() and json.loads(marker.read_text("utf-8"))["inputs"] != key:
                raise ConfigError(
                    f"{folder} was made from another recipe: choose another output=..., or delete {folder} "
                    "and what was made from it"
                )
        return key

    def run_stage(self, name: str, inputs: Any, work: Callable[[Path], None], note: Callable[[str], None]) -> str:
        """Do a stage unless it is done, and return the hash that its successors depend on.

        Args:
            name: Folder of the stage within the run.
            inputs: Everything that decides the result: tables of the recipe and hashes of earlier stages.
            work: Does the stage in the folder that it is given.
            note: Told when the stage is skipped or done.

        Raises:
            ConfigError: the folder holds the result of other inputs, or another process is working in it.
        """
        key = self.check_stage(name, inputs)
        folder = self.path / name
        if (folder / "done.json").exists():
            note(f"{name}  done before")
            return key
        folder.mkdir(parents=True, exist_ok=True)
        with _working_in(folder):
            if (folder / "done.json").exists():
                return key
            _write(folder / "begun.json", json.dumps({"inputs": key}))
            started = time.monotonic()
            work(folder)
            seconds = round(time.monotonic() - started, 1)
            record = {"inputs": key, "seconds": seconds, "forethought": importlib.metadata.version("forethought")}
            _write(folder / "done.json", json.dumps(record))
        note(f"{name}  done in {seconds:.0f} s")
        return key


def finished_episodes(folder: Path) -> int:
    """How many episodes an interrupted stage has already."""
    if not (folder / "episodes.jsonl").exists():
        return 0
    return sum(row["status"] != Status.FAULT for row in EpisodeStore(folder).rows())


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Hold a lock that the system frees when the process dies."""
    with (folder / ".working").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process is working in {folder}; stop it or choose another output=...") from None
        yield


def _write(path: Path, text: str) -> None:
    """Write a file that is whole or absent, whenever the process dies."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


class ChildFailed(RuntimeError):
    """A run in a process of its own failed; it has said why itself."""

    def __init__(self, name: str, code: int) -> None:
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        super().__init__(f"run {name!r} {how}; what is finished is kept, and the same command goes on from there")
        self.code = code
