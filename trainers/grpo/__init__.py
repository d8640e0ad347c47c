"""Group-relative policy optimisation on episodes of one or more segments."""

from .config import EpisodeGRPOConfig
from .episodes import RewardShaping, Rollout
from .trainer import EpisodeGRPOTrainer

__all__ = ["EpisodeGRPOConfig", "EpisodeGRPOTrainer", "RewardShaping", "Rollout"]
