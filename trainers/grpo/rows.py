"""Episodes become rows: one row per segment that holds a sampled token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ...agents.episode import Episode, Segment, Status

PADDING = -1
"""`Row.episode` of a dummy row."""


@dataclass(slots=True)
class Row:
    """One context to train on. `prompt_ids + completion_ids` are the ids that the model saw, unchanged."""

    episode: int
    """Index of the episode in this rank's batch, or `PADDING`."""
    prompt_ids: list[int]
    """The ids before the first sampled one; never empty."""
    completion_ids: list[int]
    """The ids from the first sampled one to the last. What was given after it cannot influence a trained token."""
    mask: list[int]
    """1 where the policy sampled the id; as long as `completion_ids`."""
    logprobs: list[float]
    """The sampler's log-probabilities; as long as `completion_ids`."""
    segment: int = 0
    """Index of the segment in its episode."""
    coefficient: float = 0.0
    """What the surrogate of each trained token is multiplied with: advantage / denominator."""
    section_coefficients: list[float] = field(default_factory=list)
    """What section credit adds to that, by token of `completion_ids`; empty without section credit."""

    @property
    def has_gradient(self) -> bool:
        """Whether any trained token has a coefficient other than 0."""
        return self.coefficient != 0 or any(self.section_coefficients)


def check_segment(segment: Segment, where: str, vocab_size: int | None = None) -> None:
    """Raise a `ValueError` that names the segment and what is wrong with it."""
    length = len(segment.token_ids)
    if len(segment.sampled) != length or len(segment.logprobs) != length:
        raise ValueError(
            f"{where} has {length} token_ids, {len(segment.sampled)} sampled and {len(segment.logprobs)} logprobs; the "
            "three must be equally long."
        )
    if not set(segment.sampled) <= {0, 1}:
        raise ValueError(f"{where} has values other than 0 and 1 in sampled.")
    if segment.sampled and segment.sampled[0]:
        raise ValueError(f"{where} begins with a sampled token, which nothing can have predicted.")
    if segment.token_ids and (
        min(segment.token_ids) < 0 or (vocab_size is not None and max(segment.token_ids) >= vocab_size)
    ):
        raise ValueError(f"{where} has token ids outside 0..{'' if vocab_size is None else vocab_size - 1}.")


def check_episode(episode: Episode, vocab_size: int | None = None) -> None:
    """Raise a `ValueError` that names the episode and what is wrong with it. Nothing is asked of a fault."""
    if episode.status is Status.FAULT:
        return
    if not math.isfinite(episode.reward):
        raise ValueError(f"Episode {episode.id!r} has reward {episode.reward}; rewards must be finite.")
    for index, segment in enumerate(episode.segments):
        check_segment(segment, f"Segment {index} of episode {episode.id!r}", vocab_size)
    # A budget may end an episode before the policy speaks (the task fills the window); an answer needs a token.
    if episode.status is Status.COMPLETED and not any(1 in segment.sampled for segment in episode.segments):
        raise ValueError(f"Episode {episode.id!r} is completed but holds no sampled token.")


def trained_segments(episode: Episode, credit: str) -> list[int]:
    """Indices of the segments in the loss: those with a sampled token, or (`last_segment`) the last of the root's."""
    # A context that a budget ended before the policy spoke holds none.
    spoken = [index for index, segment in enumerate(episode.segments) if 1 in segment.sampled]
    if credit != "last_segment" or not spoken:
        return spoken
    return [index for index in spoken if episode.task_of(index) == 0][-1:]


def episode_rows(episode: Episode, index: int, credit: str = "episode") -> list[Row]:
    """Rows of a checked episode, one for each of its trained segments."""
    rows: list[Row] = []
    for number in trained_segments(episode, credit):
        segment = episode.segments[number]
        first = segment.sampled.index(1)
        end = len(segment.sampled) - segment.sampled[::-1].index(1)
        rows.append(
            Row(
                episode=index,
                prompt_ids=segment.token_ids[:first],
                completion_ids=segment.token_ids[first:end],
                mask=segment.sampled[first:end],
                logprobs=segment.logprobs[first:end],
                segment=number,
            )
        )
    return rows


def pad_rows(rows: Sequence[Row], count: int, token_id: int) -> list[Row]:
    """Append rows of two tokens and no trained one until there are `count`."""
    if len(rows) > count:
        raise ValueError(f"{len(rows)} rows cannot be padded to {count}.")
    dummies = [
        Row(episode=PADDING, prompt_ids=[token_id], completion_ids=[token_id], mask=[0], logprobs=[0.0])
        for _ in range(count - len(rows))
    ]
    return [*rows, *dummies]


def coefficients_of(rows: Sequence[Row]) -> torch.Tensor:
    """(R,) coefficients of the rows, or (R, C) of their completion tokens where section credit tells them apart."""
    coefficients = torch.tensor([row.coefficient for row in rows], dtype=torch.float64)
    if not any(row.section_coefficients for row in rows):
        return coefficients
    extra = torch.zeros(len(rows), max(len(row.completion_ids) for row in rows), dtype=torch.float64)
    for values, row in zip(extra, rows, strict=True):
        values[: len(row.section_coefficients)] = torch.tensor(row.section_coefficients, dtype=torch.float64)
    return coefficients.unsqueeze(1) + extra
