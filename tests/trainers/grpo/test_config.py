"""Options that do not fit episodes are rejected in one sentence."""

from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig

from forethought.trainers.grpo import EpisodeGRPOConfig, EpisodeGRPOTrainer

from .tiny_grpo import make_trainer


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("loss_type", name) for name in ("grpo", "bnpo", "dr_grpo", "sapo", "luspo", "vespo")),
        ("loss_denominator", "segment"),
        ("sampler_correction", "sequence_mask"),
        ("scale_rewards", "other"),
        ("importance_sampling_level", "sequence"),
        ("off_policy_mask_threshold", 0.5),
        ("mask_truncated_completions", True),
        ("top_entropy_quantile", 0.2),
        ("use_adaptive_entropy", True),
        ("multi_objective_aggregation", "normalize_then_sum"),
        ("reward_weights", [1.0]),
        ("use_vllm", True),
        ("use_transformers_continuous_batching", True),
        ("max_tool_calling_iterations", 3),
        ("remove_unused_columns", True),
        ("credit", "segment"),
        ("mask_unfinished_below", 0.0),
        ("mask_unfinished_below", 1.5),
        ("section_credit", {"wordy": 1.0}),
        ("section_credit", {"failed_call": -1.0}),
        ("section_credit", {"failed_call": "much"}),
        ("section_credit", "failed_call"),
        ("section_credit", {"long_section": 1.0}),
        ("section_limits", {"think": 5}),
        ("section_credit_range", (1.0, 1.0)),
        ("token_budget", 0),
        ("sampler_clip", 0.0),
    ],
)
def test_rejects(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option) as caught:
        EpisodeGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{option: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limits", [{"thought": 5}, {"think": -1}])
def test_rejects_limits_of_what_is_no_section(tmp_path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="section_limits"):
        EpisodeGRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            section_credit={"long_section": 0.1},
            section_limits=limits,
        )


def test_defaults_centre_only_and_weigh_prompts(tmp_path: Path) -> None:
    config = EpisodeGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    assert (config.scale_rewards, config.loss_denominator, config.loss_type) == ("none", "prompt", "dapo")


@pytest.mark.parametrize("argument", ["reward_funcs", "rollout_func", "tools", "environment_factory", "nonsense"])
def test_rejects_what_trl_would_take(argument: str) -> None:
    with pytest.raises(TypeError, match=argument):
        EpisodeGRPOTrainer(None, None, None, None, **{argument: []})  # type: ignore[arg-type]


def test_wants_its_own_config(tmp_path: Path) -> None:
    plain = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False)
    with pytest.raises(TypeError, match="EpisodeGRPOConfig"):
        EpisodeGRPOTrainer(None, None, plain, None)  # type: ignore[arg-type]


def test_rows_with_a_gradient_of_their_own_are_not_dropped(tmp_path: Path) -> None:
    make: dict[str, Any] = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    assert EpisodeGRPOConfig(**make).drops_rows
    assert not EpisodeGRPOConfig(**make, beta=0.1).drops_rows
    assert not EpisodeGRPOConfig(**make, entropy_coef=0.1).drops_rows
    assert not EpisodeGRPOConfig(**make, drop_groups_without_signal=False).drops_rows


def test_builds_every_loss_that_fits(tmp_path: Path) -> None:
    for loss in ("dapo", "cispo"):
        make_trainer(tmp_path, loss_type=loss, epsilon_high=5.0).train()
