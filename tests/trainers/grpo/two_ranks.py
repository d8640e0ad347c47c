"""Run as a module by `test_gradient.py` on two ranks: writes each case's distance to the reference to a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from forethought.agents.episode import Episode, SegmentKind, Status
from forethought.trainers.grpo import Credit

from .tiny_grpo import FakeRollout, Gradient, distance, make_episode, make_trainer, reference_gradient
from .trees import by_place, make_tree

BASE: dict[str, Any] = {"token_budget": 60, "ddp_find_unused_parameters": False, "per_device_train_batch_size": 8}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"loss_denominator": name} for name in ("prompt", "token", "episode", "constant")},
    "accumulated": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "padding_free": {"padding_free": True},
    "straddling": {"per_device_train_batch_size": 6},  # groups of 4 on ranks of 6: one group lies on both
    "corrected": {"sampler_correction": "token_truncate"},
    "shaped": {"per_device_train_batch_size": 6},
    "trees": {},
    "trees_packed": {"padding_free": True, "per_device_train_batch_size": 6},
    "trees_last_segment": {"credit": "last_segment"},
    "trees_segment_statistics": {"credit": "segment_statistics"},
    "trees_section_credit": {"section_credit_range": (0.25, 0.75), "per_device_train_batch_size": 6},
    "trees_unfinished": {"mask_unfinished_below": 0.9},
}
REFERENCES: dict[str, dict[str, Any]] = {
    "trees_last_segment": {"trained": lambda e: [i for i in range(len(e.segments)) if is_own(e, i)][-1:]},
    "trees_segment_statistics": {"samples": lambda episode: len(episode.segments)},
    "trees_section_credit": {"extra": lambda episode, index: clipped_credit(episode, index)},
    "trees_unfinished": {"mask_unfinished": True},
}
"""What `reference_gradient` is told of a case."""


def make(place: int) -> Episode:
    episode = make_episode(place)
    episode.status = {1: Status.FAULT, 7: Status.FAULT}.get(place, Status.COMPLETED)
    return episode


def uneven_tree(place: int) -> Episode:
    """Trees of up to 24 segments on the first rank, of one or two on the second."""
    episode = make_tree(place, [24, 1, 3, 12, 1, 7][place % 6] if place < 6 else 1 + place % 2)
    episode.status = {1: Status.FAULT, 2: Status.TRUNCATED, 9: Status.TRUNCATED}.get(place, Status.COMPLETED)
    return episode


def is_own(episode: Episode, index: int) -> bool:
    """Whether a segment is one of the episode's own contexts, not of a sub-call's."""
    while (parent := episode.segments[index].parent) is not None:
        if episode.segments[index].kind is SegmentKind.SUB_CALL:
            return False
        index = parent[0]
    return True


def credit(episode: Episode) -> list[Credit]:
    """A penalty on the beginning of every second segment."""
    return [Credit(i, 0, len(s.token_ids) // 2, -0.3) for i, s in enumerate(episode.segments) if i % 2 == 0]


def clipped_credit(episode: Episode, index: int) -> list[float]:
    """What it does to the advantage of each token."""
    length = len(episode.segments[index].token_ids)
    term = max(episode.reward - 0.3, 0.25) - episode.reward if episode.reward > 0.25 and index % 2 == 0 else 0.0
    return [term if place < length // 2 else 0.0 for place in range(length)]


def shape(episodes: list[Episode], group: int, step: int) -> list[float]:
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
        make_one = uneven_tree if name.startswith("trees") else make
        trainer = make_trainer(
            folder / name,
            FakeRollout(by_place(make_one)),
            callbacks=[gradient],
            shape_rewards=shape if name == "shaped" else None,
            section_credit_hook=credit if name == "trees_section_credit" else None,
            **options,
        )
        trainer.train()
        total = 2 * options["per_device_train_batch_size"] * options.get("gradient_accumulation_steps", 1)
        episodes = [make_one(place) for place in range(total)]
        if name == "shaped":
            for episode, reward in zip(episodes, shape(episodes, 4, 0), strict=True):
                episode.reward = reward
        weigh = (lambda ours, theirs: (ours - theirs).exp().clamp(max=2.0)) if name == "corrected" else None
        reference = reference_gradient(
            episodes, 4, options.get("loss_denominator", "prompt"), weigh=weigh, **REFERENCES.get(name, {})
        )
        distances[name] = distance(gradient.values[0], reference)
    if trainer.accelerator.is_main_process:
        (folder / "distances.json").write_text(json.dumps(distances))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
