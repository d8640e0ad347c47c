from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install forethought[train]")

from transformers import TrainerControl, TrainerState, TrainingArguments

from forethought.trainers.progress import Progress
from forethought.trainers.training_log import TrainingLog, read_log


class Run:
    """Calls the log as a trainer does."""

    def __init__(self, path: Path, step: int = 0) -> None:
        self.stream = io.StringIO()
        self.log = TrainingLog(path, "SFT", Progress(self.stream, every=0), {"loss": "loss"})
        self.state = TrainerState(max_steps=10, global_step=step)
        self.arguments: Any = TrainingArguments(str(path.parent), use_cpu=True, report_to="none")
        self.log.on_train_begin(self.arguments, self.state, TrainerControl())

    def logs(self, step: int, **values: Any) -> None:
        self.state.global_step = step
        self.log.on_log(self.arguments, self.state, TrainerControl(), logs=values)


def test_entries_are_kept_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    run = Run(path)
    run.logs(1, loss=2.0)
    run.logs(2, loss=1.25, grad_norm=float("nan"))
    run.logs(2, train_runtime=3.0)
    assert [(e["step"], e["loss"]) for e in read_log(path)] == [(1, 2.0), (2, 1.25)]
    assert read_log(path)[1]["grad_norm"] is None and "NaN" not in path.read_text()
    assert run.stream.getvalue().splitlines()[-1].startswith("SFT  2/10  loss 1.25")


def test_a_number_that_is_none_is_not_shown(tmp_path: Path) -> None:
    run = Run(tmp_path / "log.jsonl")
    run.logs(1, loss=float("nan"))
    assert run.stream.getvalue().splitlines()[-1].startswith("SFT  1/10") and "loss" not in run.stream.getvalue()


def test_a_resumed_run_logs_what_came_after_its_checkpoint_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = Run(path)
    for step in (1, 2, 3):
        first.logs(step, loss=float(step))
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while it wrote
    second = Run(path, step=2)
    second.logs(3, loss=30.0)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["step"], e["loss"]) for e in entries] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert entries[2]["seconds"] >= entries[1]["seconds"]


def test_only_the_first_of_many_processes_writes(tmp_path: Path) -> None:
    run = Run(tmp_path / "log.jsonl")
    run.state.is_world_process_zero = False
    run.logs(1, loss=1.0)
    assert not (tmp_path / "log.jsonl").exists()


def test_there_may_be_no_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []
