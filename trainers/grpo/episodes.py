"""Where episodes come from, and what each of their trained tokens weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from accelerate.utils import gather_object  # type: ignore[import-untyped]

from ...agents.episode import Episode, Status
from .advantages import group_advantages, reward_scales, token_weights
from .config import EpisodeGRPOConfig
from .records import Record
from .rows import Row, check_episode, episode_rows
from .section_credit import Credit, SectionCredit, check_credit, clipped_terms, penalties

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
    """Rewards that depend on a whole group, such as a length penalty scaled by the group's pass rate, or on the step.

    One with `state_dict()` and `load_state_dict(state)` is kept in every checkpoint; the state must fit into JSON.
    """

    def __call__(self, episodes: list[Episode], num_generations: int, step: int, /) -> list[float]:
        """Return one reward per episode; a fault's is ignored.

        Args:
            episodes: The whole groups of all ranks; `reward` is what the shapings before this one made of it.
            num_generations: Episodes per group.
            step: Updates of the run so far.
        """
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


def final_rewards(
    episodes: list[Episode], shapings: Sequence[RewardShaping], num_generations: int, step: int
) -> list[float]:
    """Reward of each episode of all ranks after the shapings, one upon the other; every rank calls it with the same."""
    rewards = [episode.reward for episode in episodes]
    for shape in shapings:
        shaped = [replace(episode, reward=reward) for episode, reward in zip(episodes, rewards, strict=True)]
        rewards = list(shape(shaped, num_generations, step))
        if len(rewards) != len(episodes):
            raise ValueError(f"shape_rewards returned {len(rewards)} rewards for {len(episodes)} episodes.")
        for episode, reward in zip(episodes, rewards, strict=True):
            if episode.status is not Status.FAULT and not math.isfinite(reward):
                raise ValueError(f"shape_rewards gave episode {episode.id!r} the reward {reward}; it must be finite.")
    return rewards


@dataclass(frozen=True, slots=True)
class EpisodeTerms:
    """What makes the coefficients of one episode's tokens; all 0 for an episode that is not in the loss."""

    advantage: float
    weight: float
    """1 / denominator of the loss."""
    scale: float
    """What rewards are divided by."""


def episode_terms(
    records: Sequence[Record], args: EpisodeGRPOConfig, num_generations: int, *, mask_unfinished: bool
) -> list[EpisodeTerms]:
    """The terms of the E episodes of all ranks.

    Args:
        records: The E episodes, group by group.
        args: Options.
        num_generations: Episodes per group.
        mask_unfinished: Leave truncated episodes out of the loss and its denominators; they stay in the baseline.
    """
    rewards = torch.tensor([record.reward for record in records], dtype=torch.float64)
    counted = torch.tensor([record.counted for record in records])
    in_loss = torch.tensor([r.counted and not (mask_unfinished and r.status is Status.TRUNCATED) for r in records])
    samples = torch.tensor([record.trained_segments for record in records])
    statistics = (
        rewards, counted, num_generations, args.scale_rewards, samples if args.credit == "segment_statistics" else None
    )  # fmt: skip
    weights = token_weights(
        torch.tensor([record.trained_tokens for record in records]) * in_loss,
        num_generations,
        args.loss_denominator,
        int(args.max_completion_length or 0),
    )
    columns = group_advantages(*statistics) * in_loss, weights, reward_scales(*statistics)
    return [EpisodeTerms(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def weighted_rows(
    episode: Episode,
    index: int,
    record: Record,
    terms: EpisodeTerms,
    args: EpisodeGRPOConfig,
    section_credit: SectionCredit | None,
) -> list[Row]:
    """The rows of local episode `index`, with the coefficients of their tokens; none if it is not in the loss."""
    if terms.weight == 0:
        return []
    credits: list[Credit] = []
    if record.reward > args.section_credit_range[0]:
        credits += penalties(episode, args.section_credit, args.section_limits)
        credits += section_credit(episode) if section_credit is not None else ()
    for credit in credits:
        check_credit(credit, episode)
    rows = episode_rows(episode, index, args.credit)
    for row in rows:
        row.coefficient = terms.advantage * terms.weight
        here = [credit for credit in credits if credit.segment == row.segment]
        if here:
            factor = terms.weight / terms.scale
            extra = clipped_terms(row, here, record.reward, args.section_credit_range)
            row.section_coefficients = [term * factor for term in extra]
    return rows
