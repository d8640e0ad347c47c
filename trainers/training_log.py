"""The log of a training run: one JSON line per logged step, and what a person sees of it."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .progress import Progress


class TrainingLog(TrainerCallback):
    """Appends every log entry to a JSON Lines file and shows the main numbers.

    Args:
        path: The file.
        what: Name of the stage.
        progress: Where it is shown.
        columns: Name to show -> key of the log entry.
    """

    def __init__(self, path: Path, what: str, progress: Progress, columns: dict[str, str]) -> None:
        self._path = path
        self._what = what
        self._progress = progress
        self._columns = columns
        self._before = 0.0
        """Seconds that the run had taken when it was interrupted."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock; what was logged after the checkpoint that the run goes on from is logged again."""
        kept = [entry for entry in read_log(self._path) if entry["step"] <= state.global_step]
        if state.is_world_process_zero and self._path.exists():
            partial = self._path.with_name(self._path.name + ".partial")
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
            os.replace(partial, self._path)
        self._before = kept[-1]["seconds"] or 0.0 if kept else 0.0
        self._started = time.monotonic()
        self._counter = self._progress.counter(self._what, state.max_steps)
        self._counter.show(state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write and show one entry."""
        if not logs or "train_runtime" in logs or not state.is_world_process_zero:
            return
        seconds = round(self._before + time.monotonic() - self._started, 2)
        # JSON has no NaN, and trainers log one where they have no number.
        numbers = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in logs.items()}
        entry = {"step": state.global_step, "seconds": seconds, **numbers}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        shown = (f"{name} {entry[key]:.3g}" for name, key in self._columns.items() if entry.get(key) is not None)
        self._counter.show(state.global_step, "  ".join(shown))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries, one a step; a last line that a killed run left unfinished is left out."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text("utf-8").split("\n")[:-1] if line]
    by_step = {entry["step"]: entry for entry in map(json.loads, lines)}
    return [by_step[step] for step in sorted(by_step)]
