"""Groups of episodes: the attempts at one task."""

from __future__ import annotations

from collections.abc import Iterator

from ...agents.episode import Episode, Status


def whole_groups(episodes: list[Episode], num_generations: int) -> Iterator[list[Episode]]:
    """The groups, `num_generations` episodes each.

    Raises:
        ValueError: the last group is not whole.
    """
    if len(episodes) % num_generations:
        raise ValueError(f"expected whole groups of {num_generations} episodes, found {len(episodes)} episodes")
    for start in range(0, len(episodes), num_generations):
        yield episodes[start : start + num_generations]


def succeeded(episode: Episode, success: str) -> bool:
    """Whether the score `success` is 1; a fault has no scores."""
    return episode.status is not Status.FAULT and episode.scores.get(success, 0.0) >= 1.0
