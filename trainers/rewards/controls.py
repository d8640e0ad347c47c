"""Controls: rewards that say nothing about the episode. What still improves under them was not learned from reward.

Reinforcement learning can improve a score whose reward is noise (spurious rewards, arXiv 2506.10947), so a claim about
learning is compared with both.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ...agents.episode import Episode, Status
from .groups import whole_groups


@dataclass(kw_only=True)
class RandomReward:
    """Reward 1 with a fixed probability, else 0, whatever the episode did.

    Args:
        probability: Of a reward of 1.
        seed: The same seed, step and episode: the same reward.
    """

    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what makes no sense."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be within 0 to 1, found {self.probability}")

    def __call__(self, episodes: list[Episode], num_generations: int, step: int = 0) -> list[float]:
        """Random rewards."""
        return [
            float(random.Random(f"{self.seed}/{step}/{place}/{episode.id}").random() < self.probability)
            for place, episode in enumerate(episodes)
        ]


@dataclass(kw_only=True)
class ShuffledRewards:
    """The rewards of each group, given to its episodes in random order: the same distribution, the wrong owners.

    Args:
        seed: The same seed, step and group: the same order.
    """

    seed: int = 0

    def __call__(self, episodes: list[Episode], num_generations: int, step: int = 0) -> list[float]:
        """Shuffled rewards; a fault has none to give and gets none.

        Raises:
            ValueError: `episodes` are not whole groups.
        """
        rewards: list[float] = []
        for number, group in enumerate(whole_groups(episodes, num_generations)):
            shuffled = [episode.reward for episode in group if episode.status is not Status.FAULT]
            random.Random(f"{self.seed}/{step}/{number}/{group[0].id}").shuffle(shuffled)
            left = iter(shuffled)
            rewards += [e.reward if e.status is Status.FAULT else next(left) for e in group]
        return rewards
