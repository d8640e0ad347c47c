"""Group-relative policy optimisation on episodes of one or more segments."""

from .config import EpisodeGRPOConfig
from .episodes import RewardShaping, Rollout
from .section_credit import Credit, SectionCredit
from .trainer import EpisodeGRPOTrainer

__all__ = ["Credit", "EpisodeGRPOConfig", "EpisodeGRPOTrainer", "RewardShaping", "Rollout", "SectionCredit"]
