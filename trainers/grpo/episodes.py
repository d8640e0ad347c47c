"""Where episodes come from, and what each of their trained tokens weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from accelerate.utils import gather_object  # type: ignore[import-untyped]

from ...agents.episode import Episode, Status
from .advantages import group_advantages, token_weights
from .config import EpisodeGRPOConfig
from .records import Record
from .rows import check_episode

if TYPE_CHECKING:
    from .trainer import EpisodeGRPOTrainer


T = TypeVar("T")


class Rollout(Protocol):
    """Makes the episodes of one generation batch."""

    def __call__(self, rows: list[Mapping[str, Any]], trainer: EpisodeGRPOTrainer, /) -> list[Episode]:
        """Return one episode per row, in the order of the rows; a fault is an episode with status `fault`.

        `rows` are this rank's whole dataset rows; each prompt comes `num_generations` times running, and a group may
        straddle two ranks. `trainer.model` is in evaluation mode; `trainer.state.global_step` counts updates.
        """
        ...


class RewardShaping(Protocol):
    """Rewards that depend on a whole group, such as a length penalty scaled by the group's pass rate."""

    def __call__(self, episodes: list[Episode], num_generations: int, /) -> list[float]:
        """Return one reward per episode. `episodes` are whole groups of `num_generations`; a fault's is ignored."""
        ...


def sample_episodes(rows: list[Mapping[str, Any]], trainer: EpisodeGRPOTrainer, vocab_size: int) -> list[Episode]:
    """Call the rollout with the model in evaluation mode, and check what it returns."""
    was_training = trainer.model.training
    trainer.model.eval()
    try:
        episodes = trainer.rollout(rows, trainer)
    finally:
        trainer.model.train(was_training)
    if len(episodes) != len(rows):
        raise ValueError(f"The rollout returned {len(episodes)} episodes for {len(rows)} rows, not one each.")
    for episode in episodes:
        check_episode(episode, vocab_size)
    return episodes


def gather_from_ranks(local: list[T]) -> list[T]:
    """Return the lists of all ranks, joined in the order of the ranks."""
    gathered: list[T] = gather_object(local)
    return gathered


def final_rewards(episodes: list[Episode], shape: RewardShaping | None, num_generations: int, rank: int) -> list[float]:
    """Reward of each local episode, shaped in whole groups: gathered first where a group straddles ranks."""
    if shape is None:
        return [episode.reward for episode in episodes]
    straddles = len(episodes) % num_generations != 0
    whole = gather_from_ranks(episodes) if straddles else episodes
    rewards = list(shape(whole, num_generations))
    if len(rewards) != len(whole):
        raise ValueError(f"shape_rewards returned {len(rewards)} rewards for {len(whole)} episodes.")
    for episode, reward in zip(whole, rewards, strict=True):
        if episode.status is not Status.FAULT and not math.isfinite(reward):
            raise ValueError(f"shape_rewards gave episode {episode.id!r} the reward {reward}; it must be finite.")
    first = rank * len(episodes) if straddles else 0
    return rewards[first : first + len(episodes)]


def in_loss(record: Record, args: EpisodeGRPOConfig) -> bool:
    """Whether the tokens of an episode enter the loss and its denominators."""
    return record.counted and not (args.mask_unfinished and record.status is Status.TRUNCATED)


def token_coefficients(records: Sequence[Record], args: EpisodeGRPOConfig, num_generations: int) -> torch.Tensor:
    """(E,) factor of each trained token's surrogate, advantage / denominator, for the E episodes of all ranks."""
    advantages = group_advantages(
        torch.tensor([record.reward for record in records], dtype=torch.float64),
        torch.tensor([record.counted for record in records]),
        num_generations,
        args.scale_rewards,
    )
    tokens = torch.tensor([record.sampled_tokens if in_loss(record, args) else 0 for record in records])
    return advantages * token_weights(
        tokens, num_generations, args.loss_denominator, int(args.max_completion_length or 0)
    )
