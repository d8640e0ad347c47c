"""The log of a training run: one JSON line per logged step, and what a person sees of it."""

from __future__ import annotations

import json
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
        self._started = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock."""
        self._counter = self._progress.counter(self._what, state.max_steps)
        self._counter.show(state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write and show one entry."""
        if not logs or "train_runtime" in logs:
            return
        entry = {"step": state.global_step, "seconds": round(time.monotonic() - self._started, 2), **logs}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        shown = (f"{name} {logs[key]:.3g}" for name, key in self._columns.items() if logs.get(key) is not None)
        self._counter.show(state.global_step, "  ".join(shown))


def read_log(path: Path) -> list[dict[str, float]]:
    """The entries, one a step: where a resumed run logged a step again, the later entry counts."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text("utf-8").split("\n")[:-1] if line]
    by_step = {entry["step"]: entry for entry in map(json.loads, lines)}
    return [by_step[step] for step in sorted(by_step)]
