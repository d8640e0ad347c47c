"""Rewards that depend on a whole group of episodes."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.episode import Episode, Status


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
        start_accuracy: The penalty begins with the first batch whose accuracy reaches this, and then stays on.
        active: Whether it has begun; a run that was interrupted gives back what it had.
    """

    weight: float
    max_tokens: int
    success: str = "correct"
    start_accuracy: float = 0.0
    active: bool = False

    def __call__(self, episodes: list[Episode], num_generations: int) -> list[float]:
        """Shaped rewards; `episodes` are whole groups of `num_generations`. Faults are not counted.

        Raises:
            ValueError: `episodes` are not whole groups.
        """
        if len(episodes) % num_generations:
            raise ValueError(f"expected whole groups of {num_generations} episodes, found {len(episodes)} episodes")
        counted = [episode for episode in episodes if episode.status is not Status.FAULT]
        correct = sum(self._succeeded(episode) for episode in counted)
        if counted and correct >= self.start_accuracy * len(counted):
            self.active = True
        rewards = []
        for start in range(0, len(episodes), num_generations):
            group = episodes[start : start + num_generations]
            live = [episode for episode in group if episode.status is not Status.FAULT]
            pass_rate = sum(map(self._succeeded, live)) / len(live) if live else 0.0
            price = self.weight * max(pass_rate, 1 / num_generations) / self.max_tokens if self.active else 0.0
            rewards += [e.reward - (price * e.sampled_tokens() if self._succeeded(e) else 0.0) for e in group]
        return rewards

    def _succeeded(self, episode: Episode) -> bool:
        return episode.scores.get(self.success, 0.0) >= 1.0
