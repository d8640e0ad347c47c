"""Supervised fine-tuning on episodes, with TRL's `SFTTrainer`: the loss is on what the policy sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...agents.episode import Status
from ...agents.episode_store import EpisodeStore
from ..models import save_model
from ..progress import Progress
from ..recipe import Recipe, SFTTable
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
    """One row per segment: `input_ids`, and `labels` that are -100 where the token was given."""
    from datasets import Dataset

    rows = [
        {
            "input_ids": segment.token_ids,
            "labels": [t if s else -100 for t, s in zip(segment.token_ids, segment.sampled, strict=True)],
        }
        for episode in EpisodeStore(folder)
        if episode.status is not Status.FAULT
        for segment in episode.segments
    ]
    return Dataset.from_list(rows)


def fine_tune(
    recipe: Recipe, table: SFTTable, model: Any, tokenizer: Any, traces: Path, folder: Path, progress: Progress
) -> None:
    """Train on the traces and save the model; a run that was killed goes on from its last checkpoint."""
    from trl import SFTConfig, SFTTrainer

    folder.mkdir(parents=True, exist_ok=True)
    options = _DEFAULTS | without_checkpointing(SFTConfig) | device_options(recipe) | table.trainer
    config = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        **options,
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=episode_dataset(traces),
        processing_class=tokenizer,
        callbacks=[
            TrainingLog(folder / "log.jsonl", "SFT", progress, {"loss": "loss", "accuracy": "mean_token_accuracy"})
        ],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    save_model(trainer.model, tokenizer, folder / "model")


def without_checkpointing(config: type[Any]) -> dict[str, bool]:
    """Turns activation checkpointing off, under the name that this version of transformers gives it."""
    names = config.__dataclass_fields__
    return {"activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing": False}


def device_options(recipe: Recipe) -> dict[str, Any]:
    """Seed and device of the recipe as options of a trainer."""
    return {"seed": recipe.seed, "use_cpu": recipe.device == "cpu"}


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a training stage that was interrupted, None when there is none."""
    from transformers.trainer_utils import get_last_checkpoint

    path: str | None = get_last_checkpoint(str(folder / "checkpoints"))  # type: ignore[no-untyped-call]
    return path


def quiet(trainer: Any) -> None:
    """Take away the trainer's own printing: `TrainingLog` shows the numbers."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
