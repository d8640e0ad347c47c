"""A run's folder: the resolved recipe, and which stages are done from which inputs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        text = tomli_w.dumps(self._recipe.to_tables())
        (self.path / "recipe.resolved.toml").write_text(text, "utf-8")

    def run_stage(self, name: str, inputs: Any, work: Callable[[Path], None], note: Callable[[str], None]) -> str:
        """Do a stage unless it is done, and return the hash that its successors depend on.

        Args:
            name: Folder of the stage within the run.
            inputs: Everything that decides the result: tables of the recipe and hashes of earlier stages.
            work: Does the stage in the folder that it is given.
            note: Told when the stage is skipped or done.

        Raises:
            ConfigError: the folder holds the result of other inputs.
        """
        folder = self.path / name
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True, default=str).encode()).hexdigest()[:16]
        done = folder / "done.json"
        begun = folder / "begun.json"
        for marker in (done, begun):
            if marker.exists() and json.loads(marker.read_text("utf-8"))["inputs"] != key:
                raise ConfigError(
                    f"{folder} was made from another recipe: choose another output=..., or delete {folder} "
                    "and what was made from it"
                )
        if done.exists():
            note(f"{name}  done before")
            return key
        folder.mkdir(parents=True, exist_ok=True)
        begun.write_text(json.dumps({"inputs": key}), "utf-8")
        started = time.monotonic()
        work(folder)
        seconds = round(time.monotonic() - started, 1)
        partial = folder / "done.json.partial"
        record = {"inputs": key, "seconds": seconds, "forethought": importlib.metadata.version("forethought")}
        partial.write_text(json.dumps(record), "utf-8")
        os.replace(partial, done)
        note(f"{name}  done in {seconds:.0f} s")
        return key


class ChildFailed(RuntimeError):
    """A run in a process of its own failed; it has said why itself."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"run {name!r} ended with exit code {code}")
        self.code = code
