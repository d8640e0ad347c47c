"""Abstraction: parts of a task handed to sub-models, side by side where they can be."""

from __future__ import annotations

from dataclasses import dataclass

from ...agents.episode import Episode
from ...agents.tree import critical_path, sub_calls
from .groups import succeeded


@dataclass(kw_only=True)
class LatencyBonus:
    """Solve it with less waiting: a share of the reward for the part of the tokens that ran beside others.

        reward = reward * (1 + weight * min(1 - L_crit / L_total, cap))   for episodes that succeeded

    This is ThreadWeaver's P-GRPO (arXiv 2512.07843): gated on success, clipped so that splitting further stops paying,
    and to be used without division by the standard deviation (`scale_rewards="none"`, the default), which would blow
    the small term up in groups where all succeed. L counts sampled tokens, those of frozen sub-models included; it is
    the same on every machine, unlike seconds.

    Args:
        weight: rho.
        cap: Largest acceleration that is paid for.
        success: The score that is 1 when an episode succeeded.
    """

    weight: float = 0.5
    cap: float = 0.2
    success: str = "correct"

    def __post_init__(self) -> None:
        """Reject what makes no sense."""
        if not 0 <= self.cap <= 1:
            raise ValueError(f"cap must be within 0 to 1, found {self.cap}")

    def __call__(self, episodes: list[Episode], num_generations: int, step: int = 0) -> list[float]:
        """Shaped rewards."""
        return [episode.reward * self._factor(episode) for episode in episodes]

    def _factor(self, episode: Episode) -> float:
        if not succeeded(episode, self.success):
            return 1.0
        path = critical_path(episode)
        return 1.0 + self.weight * min(1.0 - path.tokens / path.total, self.cap) if path.total else 1.0


@dataclass(kw_only=True)
class DelegationBonus:
    """Try delegation at all: a bonus for sub-calls that gave an answer, whatever became of the episode.

        reward = reward + weight * (1 - step / anneal_steps) * min(answered sub-calls / sub_calls, 1)

    Without it a policy that starts out serial may never sample enough delegation to find out that it pays (Kimi K2.5's
    r_parallel, arXiv 2602.02276, whose weight goes to 0). A bonus that stays is hacked: a reproduction with a constant
    one ended at 12 sub-calls an episode and lower accuracy. It is offered for that ablation only.

    Args:
        weight: Largest bonus, at the first step.
        anneal_steps: Steps after which the bonus is gone; None is the constant bonus.
        sub_calls: Answered sub-calls that earn the whole bonus; fewer earn their share.
    """

    weight: float
    anneal_steps: int | None = None
    sub_calls: int = 1

    def __post_init__(self) -> None:
        """Reject what makes no sense."""
        if self.anneal_steps is not None and self.anneal_steps < 1:
            raise ValueError(f"anneal_steps must be at least 1, found {self.anneal_steps}")
        if self.sub_calls < 1:
            raise ValueError(f"sub_calls must be at least 1, found {self.sub_calls}")

    def __call__(self, episodes: list[Episode], num_generations: int, step: int = 0) -> list[float]:
        """Shaped rewards; `step` counts the updates of the run."""
        left = 1.0 if self.anneal_steps is None else max(0.0, 1.0 - step / self.anneal_steps)
        return [episode.reward + self.weight * left * self._share(episode) for episode in episodes]

    def _share(self, episode: Episode) -> float:
        answered = sum(sub_call.call.error is None for sub_call in sub_calls(episode))
        return min(answered / self.sub_calls, 1.0)
