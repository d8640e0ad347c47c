"""Calibration: tokens in proportion to difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...agents.episode import Episode, Status
from .groups import succeeded, whole_groups


@dataclass(kw_only=True)
class LengthPenalty:
    """Spend tokens in proportion to difficulty: a length penalty scaled by the pass rate of the episode's group.

        reward = reward - weight * (sampled tokens / max_tokens) * max(pass rate, 1 / G)   for episodes that succeeded

    The form is ALP's (arXiv 2506.05256), gated on success: a failed episode is not punished for its length, so
    shortness never makes up for failure. Where most of the group succeeds, tokens cost the full weight; where
    almost none does, next to nothing.

    Args:
        weight: beta.
        max_tokens: Tokens that cost the whole weight.
        success: The score that is 1 when an episode succeeded.
        start_accuracy: The penalty begins with the first batch whose accuracy reaches this, and then stays on
            (`active`, which checkpoints keep).
    """

    weight: float
    max_tokens: int
    success: str = "correct"
    start_accuracy: float = 0.0

    def __post_init__(self) -> None:
        """Begin without it."""
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, found {self.max_tokens}")
        self.active = False

    def __call__(self, episodes: list[Episode], num_generations: int, step: int = 0) -> list[float]:
        """Shaped rewards; `episodes` are whole groups of `num_generations`. Faults are not counted.

        Raises:
            ValueError: `episodes` are not whole groups.
        """
        groups = list(whole_groups(episodes, num_generations))
        counted = [episode for episode in episodes if episode.status is not Status.FAULT]
        correct = sum(self._succeeded(episode) for episode in counted)
        if counted and correct >= self.start_accuracy * len(counted):
            self.active = True
        rewards = []
        for group in groups:
            live = [episode for episode in group if episode.status is not Status.FAULT]
            pass_rate = sum(map(self._succeeded, live)) / len(live) if live else 0.0
            price = self.weight * max(pass_rate, 1 / num_generations) / self.max_tokens if self.active else 0.0
            rewards += [e.reward - (price * e.sampled_tokens() if self._succeeded(e) else 0.0) for e in group]
        return rewards

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"active": self.active}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.active = bool(state["active"])

    def _succeeded(self, episode: Episode) -> bool:
        return succeeded(episode, self.success)
