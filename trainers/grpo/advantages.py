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
    rewards: torch.Tensor, counted: torch.Tensor, num_generations: int, scale: str = "none"
) -> torch.Tensor:
    """Advantage of each episode over its group: A_e = R_e - mean of R over the counted episodes of its group.

    Args:
        rewards: (E,) rewards; those of episodes that do not count may be anything.
        counted: (E,) bool; False leaves the episode out of every statistic (a fault) and gives it advantage 0.
        num_generations: Episodes per group.
        scale: `none`; `group`: divide by the standard deviation in the group; `batch`: by that of the batch.

    Returns:
        (E,) advantages, exactly 0 in a group whose counted rewards are all equal or that has no counted episode.
    """
    rewards, counted = rewards.double().view(-1, num_generations), counted.view(-1, num_generations)
    safe = torch.where(counted, rewards, 0.0)
    count = counted.sum(1, keepdim=True)
    centred = safe - safe.sum(1, keepdim=True) / count.clamp(min=1)
    # A mean of equal floats can differ from them in the last bit: what must be 0 is decided on the rewards themselves.
    lowest = torch.where(counted, rewards, torch.inf).amin(1, keepdim=True)
    highest = torch.where(counted, rewards, -torch.inf).amax(1, keepdim=True)
    advantages = torch.where(counted & (highest > lowest), centred, 0.0)
    if scale == "group":
        variance = torch.where(counted, centred, 0.0).square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
        advantages = advantages / (variance.sqrt() + SCALE_EPSILON)
    elif scale == "batch":
        kept = rewards[counted]
        deviation = kept.std() if kept.numel() > 1 else kept.new_zeros(())
        advantages = advantages / (deviation + SCALE_EPSILON)
    elif scale != "none":
        raise ValueError(f"scale={scale!r} is not one of 'none', 'group', 'batch'.")
    return advantages.flatten()


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
