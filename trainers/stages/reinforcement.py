"""Reinforcement learning from episode rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...agents.agent import Agent
from ...agents.episode import Episode
from ...agents.episode_store import EpisodeWriter
from ...agents.rollout import EpisodeRequest
from ...agents.rollouts import collect_rollouts
from ...envs import background_loop
from ...envs.tasks import TaskSet
from ..grpo import EpisodeGRPOConfig, EpisodeGRPOTrainer
from ..models import save_model
from ..progress import Progress
from ..recipe import GRPOTable, Recipe
from ..rewards import SHAPINGS
from ..training_log import TrainingLog
from .supervised import last_checkpoint, quiet, trainer_config

_DEFAULTS: dict[str, Any] = {
    "logging_steps": 1,
    "save_steps": 50,
    "save_total_limit": 1,
    "report_to": "none",
    "bf16": False,
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
}
_COLUMNS = {
    "reward": "reward",
    "correct": "rewards/correct/mean",
    "tokens": "completions/mean_length",
    "entropy": "entropy",
    "s/step": "step_time",
}


class EngineRollout:
    """Rolls out the episodes of one generation batch with an agent whose engine reads the model in training.

    Args:
        recipe: The recipe.
        tasks: Tasks by id.
        agent: The policy.
        folder: Where the episodes of every `save_every`-th step are kept.
        save_every: Steps between the batches that are kept.
    """

    def __init__(self, recipe: Recipe, tasks: TaskSet, agent: Agent, folder: Path, save_every: int) -> None:
        self._spec = recipe.env.spec()
        self._seed = recipe.seed
        self._tasks = tasks
        self._agent = agent
        self._concurrency = recipe.sampling.slots
        self._folder = folder
        self._save_every = save_every
        self._step = -1
        self._batches_of_step = 0

    def __call__(self, rows: list[Mapping[str, Any]], trainer: EpisodeGRPOTrainer) -> list[Episode]:
        """One episode per row; attempts are numbered so that no two episodes of a run share an id."""
        step = trainer.state.global_step
        rank = trainer.accelerator.process_index
        # A step that accumulates gradients over several generation batches comes here once for each.
        self._batches_of_step = self._batches_of_step + 1 if step == self._step else 0
        self._step = step
        batches = max(1, trainer.args.gradient_accumulation_steps)
        batch = (step * batches + self._batches_of_step) * trainer.accelerator.num_processes + rank
        seen: Counter[int] = Counter()
        requests = []
        for row in rows:
            index = row["index"]
            attempt = batch * len(rows) + seen[index]
            seen[index] += 1
            requests.append(EpisodeRequest(task=self._tasks[index], attempt=attempt, seed=self._seed + index))
        episodes = background_loop.run(
            collect_rollouts(requests, self._spec, self._agent, concurrency=self._concurrency)
        )
        if step % self._save_every == 0 and rank == 0:
            with EpisodeWriter(self._folder / f"step-{step:06}") as writer:
                for episode in episodes:
                    if episode.id not in writer.finished:
                        writer.append(episode)
        return episodes


def reinforce(
    recipe: Recipe, table: GRPOTable, model: Any, tokenizer: Any, agent: Agent, tasks: TaskSet, folder: Path,
    progress: Progress, what: str,
) -> None:  # fmt: skip
    """Train on the tasks and save the model; a run that was killed goes on from its last checkpoint."""
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    # Copies: some keep what they have seen, and ablations share the recipe.
    shapings = [replace(shaping) for name in SHAPINGS if (shaping := getattr(table, name)) is not None]
    trainer = EpisodeGRPOTrainer(
        model=model,
        rollout=EngineRollout(recipe, tasks, agent, folder / "episodes", table.save_episodes_every),
        args=grpo_config(recipe, table, folder),
        train_dataset=Dataset.from_list([{"prompt": task.id, "index": i} for i, task in enumerate(tasks)]),
        processing_class=tokenizer,
        shape_rewards=shapings,
        callbacks=[TrainingLog(folder / "log.jsonl", what, progress, _COLUMNS)],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    save_model(trainer.model, tokenizer, folder / "model")


def grpo_config(recipe: Recipe, table: GRPOTable, folder: Path) -> EpisodeGRPOConfig:
    """The options of the trainer.

    Raises:
        ConfigError: it does not take them.
    """
    options = _DEFAULTS | table.trainer | {"temperature": recipe.sampling.temperature}
    config: EpisodeGRPOConfig = trainer_config(EpisodeGRPOConfig, "grpo.trainer", recipe, options, folder)
    return config
