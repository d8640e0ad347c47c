"""Supervised fine-tuning on episodes, with TRL's `SFTTrainer`: the loss is on what the policy sampled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...agents.episode import Status
from ...agents.episode_store import EpisodeStore
from ...agents.local_model import choose_device, one_sentence
from ..models import save_model
from ..progress import Progress
from ..recipe import Recipe, SFTTable
from ..toml_tables import ConfigError
from ..training_log import TrainingLog

_DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "save_steps": 200,
    "save_total_limit": 1,
    "report_to": "none",
    "bf16": False,
    "disable_tqdm": True,
}


def episode_dataset(folder: Path) -> Any:
    """One row per segment: `input_ids`, and `labels` that are -100 where the token was given.

    In the order of the episodes' ids: the order in which they ended would differ after an interruption.
    """
    from datasets import Dataset

    episodes = [episode for episode in EpisodeStore(folder) if episode.status is not Status.FAULT]
    rows = [
        {
            "input_ids": segment.token_ids,
            "labels": [t if s else -100 for t, s in zip(segment.token_ids, segment.sampled, strict=True)],
        }
        for episode in sorted(episodes, key=lambda episode: episode.id)
        for segment in episode.segments
    ]
    return Dataset.from_list(rows)


def fine_tune(
    recipe: Recipe, table: SFTTable, model: Any, tokenizer: Any, traces: Path, folder: Path, progress: Progress
) -> None:
    """Train on the traces and save the model; a run that was killed goes on from its last checkpoint."""
    from trl import SFTTrainer

    folder.mkdir(parents=True, exist_ok=True)
    trainer = SFTTrainer(
        model=model,
        args=sft_config(recipe, table, folder),
        train_dataset=episode_dataset(traces),
        processing_class=tokenizer,
        callbacks=[
            TrainingLog(folder / "log.jsonl", "SFT", progress, {"loss": "loss", "accuracy": "mean_token_accuracy"})
        ],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    save_model(trainer.model, tokenizer, folder / "model")


def sft_config(recipe: Recipe, table: SFTTable, folder: Path) -> Any:
    """The options of TRL's trainer.

    Raises:
        ConfigError: TRL does not take them.
    """
    from trl import SFTConfig

    fixed = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    return trainer_config(SFTConfig, "sft.trainer", recipe, _DEFAULTS | table.trainer | fixed, folder)


def trainer_config(config: type[Any], name: str, recipe: Recipe, options: dict[str, Any], folder: Path) -> Any:
    """Make a configuration of TRL's, and see that the trackers it names are installed.

    Raises:
        ConfigError: it does not take these options, or a tracker is missing.
    """
    import transformers.integrations as trackers

    fixed = {"output_dir": str(folder / "checkpoints"), "seed": recipe.seed}
    fixed["use_cpu"] = choose_device(recipe.device) == "cpu"
    try:
        made = config(**(_without_checkpointing(config) | options | fixed))
        for tracker in trackers.get_reporting_integration_callbacks(made.report_to):  # type: ignore[attr-defined,no-untyped-call]
            tracker()
    except (TypeError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise ConfigError(f"[{name}]: {one_sentence(error)}") from error
    return made


def _without_checkpointing(config: type[Any]) -> dict[str, bool]:
    """Turns activation checkpointing off, under the name that this version of transformers gives it."""
    names = config.__dataclass_fields__
    return {"activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing": False}


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a training stage that was interrupted, None when there is none.

    The trainer's state is what a checkpoint is completed with: one without it was being written when the process died,
    and is taken away.
    """
    checkpoints = sorted((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(checkpoints):
        try:
            json.loads((path / "trainer_state.json").read_text("utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return str(path)
    return None


def quiet(trainer: Any) -> None:
    """Take away the trainer's own printing: `TrainingLog` shows the numbers."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
