"""Advantages and loss weights of episodes.

Every statistic is taken over *episodes*, never over segments: an episode that was cut into many segments is still one
sample of its group (SUPO, arXiv 2510.06727). All tensors have shape (E,): the E episodes of the whole batch, group by
group, `num_generations` to a group. They are float64, on the CPU: these are the numbers of a few thousand episodes.
"""

from __future__ import annotations

import torch

SCALE_EPSILON = 1e-4
"""Added to a standard deviation before division, as TRL does."""


def group_advantages(
    rewards: torch.Tensor,
    counted: torch.Tensor,
    num_generations: int,
    scale: str = "none",
    samples: torch.Tensor | None = None,
) -> torch.Tensor:
    """Advantage of each episode over its group: A_e = R_e - mean of R over the counted episodes of its group.

    Args:
        rewards: (E,) rewards; those of episodes that do not count may be anything.
        counted: (E,) bool; False leaves the episode out of every statistic (a fault) and gives it advantage 0.
        num_generations: Episodes per group.
        scale: What the centred rewards are divided by; see `reward_scales`.
        samples: (E,) how many samples each episode is in the statistics; one each without it.

    Returns:
        (E,) advantages, exactly 0 in a group whose counted rewards are all equal or that has no counted episode.
    """
    samples = _samples(counted, samples)
    centred = _centred(rewards, samples, num_generations)
    # A mean of equal floats can differ from them in the last bit: what must be 0 is decided on the rewards themselves.
    by_group, in_group = rewards.double().view(-1, num_generations), counted.view(-1, num_generations)
    lowest = torch.where(in_group, by_group, torch.inf).amin(1, keepdim=True)
    highest = torch.where(in_group, by_group, -torch.inf).amax(1, keepdim=True)
    advantages = torch.where(in_group & (highest > lowest), centred, 0.0).flatten()
    return advantages / reward_scales(rewards, counted, num_generations, scale, samples)


def reward_scales(
    rewards: torch.Tensor,
    counted: torch.Tensor,
    num_generations: int,
    scale: str = "none",
    samples: torch.Tensor | None = None,
) -> torch.Tensor:
    """(E,) what centred rewards are divided by: 1 (`none`), the standard deviation in the `group` or in the `batch`."""
    samples = _samples(counted, samples)
    if scale == "none":
        return torch.ones_like(samples)
    if scale == "group":
        centred, in_group = _centred(rewards, samples, num_generations), samples.view(-1, num_generations)
    elif scale == "batch":
        centred, in_group = _centred(rewards, samples, len(samples)), samples.view(1, -1)
    else:
        raise ValueError(f"scale={scale!r} is not one of 'none', 'group', 'batch'.")
    variance = (in_group * centred.square()).sum(1, keepdim=True) / (in_group.sum(1, keepdim=True) - 1).clamp(min=1)
    return (variance.sqrt() + SCALE_EPSILON).expand_as(in_group).flatten()


def _samples(counted: torch.Tensor, samples: torch.Tensor | None) -> torch.Tensor:
    return counted.double() if samples is None else torch.where(counted, samples.double(), 0.0)


def _centred(rewards: torch.Tensor, samples: torch.Tensor, size: int) -> torch.Tensor:
    """(groups, size) rewards minus the mean of their group, 0 where there is no sample."""
    samples = samples.view(-1, size)
    safe = torch.where(samples > 0, rewards.double().view(-1, size), 0.0)
    mean = (samples * safe).sum(1, keepdim=True) / samples.sum(1, keepdim=True).clamp(min=1)
    return torch.where(samples > 0, safe - mean, 0.0)


def token_weights(tokens: torch.Tensor, num_generations: int, denominator: str, constant: int) -> torch.Tensor:
    """Weight of one trained token of each episode: 1 / (the denominator of the loss).

    With T_e trained tokens in episode e, the loss is the sum over episodes of w_e x the sum over their tokens, where
        prompt    w_e = 1 / (live prompts x sum of T over the group of e)     a prompt counts once (ScaleRL, slime)
        token     w_e = 1 / (sum of T over the batch)                         a token counts once (DAPO, 2503.14476)
        episode   w_e = 1 / (live episodes x T_e)                             an episode counts once (GRPO, 2402.03300)
        constant  w_e = 1 / (live episodes x constant)                        no length bias (Dr.GRPO, 2503.20783)

    Args:
        tokens: (E,) tokens of each episode in the loss; 0 for an episode left out of it. Live means T > 0.
        num_generations: Episodes per group.
        denominator: One of the four names above.
        constant: The C of Dr.GRPO, in tokens.

    Returns:
        (E,) weights, 0 for episodes that are not live.
    """
    tokens = tokens.double()
    live = tokens > 0
    per_group = tokens.view(-1, num_generations).sum(1)
    if denominator == "prompt":
        total = (per_group > 0).sum() * per_group.repeat_interleave(num_generations)
    elif denominator == "token":
        total = tokens.sum().expand_as(tokens)
    elif denominator == "episode":
        total = live.sum() * tokens
    elif denominator == "constant":
        total = (live.sum() * float(constant)).expand_as(tokens)
    else:
        raise ValueError(f"denominator={denominator!r} is not one of 'prompt', 'token', 'episode', 'constant'.")
    return torch.where(live, 1.0 / total.clamp(min=1.0), 0.0)
