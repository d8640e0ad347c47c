"""Statistics over episodes."""

import pytest
import torch

from forethought.trainers.grpo.advantages import group_advantages, token_weights


def test_centres_on_the_group() -> None:
    advantages = group_advantages(torch.tensor([1.0, 0.0, 0.0, 3.0]), torch.ones(4, dtype=torch.bool), 2)
    assert advantages.tolist() == [0.5, -0.5, -1.5, 1.5]


def test_leaves_out_what_does_not_count() -> None:
    counted = torch.tensor([True, False, True, False, False, False])
    rewards = torch.tensor([1.0, float("nan"), 0.0, 5.0, float("inf"), -1.0])
    assert group_advantages(rewards, counted, 3).tolist() == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]


def test_equal_rewards_have_advantage_zero_to_the_last_bit() -> None:
    rewards = torch.full((14,), 0.1, dtype=torch.float64)
    assert not group_advantages(rewards, torch.ones(14, dtype=torch.bool), 7).any()


def test_scales_by_group_or_batch() -> None:
    rewards, counted = torch.tensor([0.0, 2.0, 0.0, 4.0]), torch.ones(4, dtype=torch.bool)
    by_group = group_advantages(rewards, counted, 2, "group")
    assert by_group.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5, -(0.5**0.5), 0.5**0.5], rel=2e-4)
    by_batch = group_advantages(rewards, counted, 2, "batch")
    assert by_batch.tolist() == pytest.approx([a / (rewards.std().item() + 1e-4) for a in (-1, 1, -2, 2)])
    assert not group_advantages(rewards, torch.zeros(4, dtype=torch.bool), 2, "batch").any()
    with pytest.raises(ValueError, match="scale"):
        group_advantages(rewards, counted, 2, "other")


@pytest.mark.parametrize(
    ("denominator", "expected"),
    [
        ("prompt", [1 / 8, 1 / 8, 1 / 20, 0]),
        ("token", [1 / 14, 1 / 14, 1 / 14, 0]),
        ("episode", [1 / 9, 1 / 3, 1 / 30, 0]),
        ("constant", [1 / 300, 1 / 300, 1 / 300, 0]),
    ],
)
def test_token_weights(denominator: str, expected: list[float]) -> None:
    weights = token_weights(torch.tensor([3, 1, 10, 0]), 2, denominator, 100)
    assert weights.tolist() == pytest.approx(expected)


def test_only_live_prompts_share_the_loss() -> None:
    assert token_weights(torch.tensor([2, 2, 0, 0]), 2, "prompt", 1).tolist() == [0.25, 0.25, 0.0, 0.0]
    assert not token_weights(torch.zeros(4, dtype=torch.long), 2, "prompt", 1).any()
    with pytest.raises(ValueError, match="denominator"):
        token_weights(torch.tensor([2, 2]), 2, "segment", 1)
