"""Run as a module by `test_gradient.py` on two ranks: writes each case's distance to the reference to a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from forethought.agents.episode import Episode, Status

from .tiny_grpo import FakeRollout, Gradient, distance, make_episode, make_trainer, reference_gradient

BASE: dict[str, Any] = {"token_budget": 60, "ddp_find_unused_parameters": False, "per_device_train_batch_size": 8}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"loss_denominator": name} for name in ("prompt", "token", "episode", "constant")},
    "accumulated": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "padding_free": {"padding_free": True},
    "straddling": {"per_device_train_batch_size": 6},  # groups of 4 on ranks of 6: one group lies on both
    "corrected": {"sampler_correction": "token_truncate"},
    "shaped": {"per_device_train_batch_size": 6},
}


def make(row: object, place: int, step: int) -> Episode:
    episode = make_episode(place)
    episode.status = {1: Status.FAULT, 7: Status.FAULT}.get(place, Status.COMPLETED)
    return episode


def shape(episodes: list[Episode], group: int) -> list[float]:
    """Length penalty scaled by the pass rate of the group."""
    shaped = []
    for start in range(0, len(episodes), group):
        members = episodes[start : start + group]
        rate = sum(e.reward > 0.5 for e in members) / group
        shaped += [e.reward - 0.01 * rate * e.sampled_tokens() for e in members]
    return shaped


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    distances = {}
    for name, case in CASES.items():
        gradient = Gradient()
        options = BASE | case
        trainer = make_trainer(
            folder / name,
            FakeRollout(make),
            callbacks=[gradient],
            shape_rewards=shape if name == "shaped" else None,
            **options,
        )
        trainer.train()
        total = 2 * options["per_device_train_batch_size"] * options.get("gradient_accumulation_steps", 1)
        episodes = [make(None, i, 0) for i in range(total)]
        if name == "shaped":
            for episode, reward in zip(episodes, shape(episodes, 4), strict=True):
                episode.reward = reward
        weigh = (lambda ours, theirs: (ours - theirs).exp().clamp(max=2.0)) if name == "corrected" else None
        reference = reference_gradient(episodes, 4, options.get("loss_denominator", "prompt"), weigh=weigh)
        distances[name] = distance(gradient.values[0], reference)
    if trainer.accelerator.is_main_process:
        (folder / "distances.json").write_text(json.dumps(distances))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
