"""Rewards that depend on a whole group of episodes, or on the step.

Each is called with whole groups of episodes, whose `reward` is what the ones before it made of it; they are applied in
the order of `SHAPINGS`.
"""

from typing import Any

from .abstraction import DelegationBonus, LatencyBonus
from .controls import RandomReward, ShuffledRewards
from .length import LengthPenalty

SHAPINGS: dict[str, type[Any]] = {
    "latency_bonus": LatencyBonus,
    "length_penalty": LengthPenalty,
    "delegation_bonus": DelegationBonus,
    "random_reward": RandomReward,
    "shuffled_rewards": ShuffledRewards,
}
"""By name, in the order in which they are applied: factors, then terms, then the controls, which undo all of them."""

__all__ = ["SHAPINGS", "DelegationBonus", "LatencyBonus", "LengthPenalty", "RandomReward", "ShuffledRewards"]
