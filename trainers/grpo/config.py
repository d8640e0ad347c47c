"""Options of `EpisodeGRPOTrainer`: those of `trl.GRPOConfig`, and how episodes are weighed and batched."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from ...envs.protocol.turn import SectionKind
from .section_credit import TERMS

LOSS_TYPES = ("dapo", "cispo")
"""TRL losses of single tokens that divide by a count of tokens: neither the number of rows of an episode nor where it
was cut into rows is a weight (`vespo` multiplies the ratios of a whole row)."""

CREDITS = ("episode", "last_segment", "segment_statistics")
LOSS_DENOMINATORS = ("prompt", "token", "episode", "constant")
SAMPLER_CORRECTIONS = ("none", "token_truncate")
REWARD_SCALES = ("none", "group", "batch")

# option -> (the only value that fits, why every other value does not)
_FIXED: dict[str, tuple[Any, str]] = {
    "importance_sampling_level": ("token", "a ratio over a whole row would depend on where an episode is cut"),
    "off_policy_mask_threshold": (None, "it masks whole rows, so it would depend on where an episode is cut"),
    "mask_truncated_completions": (False, "it tests the last token of a row; use `mask_unfinished`"),
    "top_entropy_quantile": (1.0, "its quantile is taken per micro-batch, so it would depend on `token_budget`"),
    "use_adaptive_entropy": (False, "its controller works per micro-batch; use a fixed `entropy_coef`"),
    "multi_objective_aggregation": ("sum_then_normalize", "an episode has one reward; combine its scores in the task"),
    "reward_weights": (None, "an episode has one reward; weigh its scores in the task or in `shape_rewards`"),
    "use_vllm": (False, "episodes are sampled by the rollout; give the rollout a vLLM engine"),
    "use_transformers_continuous_batching": (False, "episodes are sampled by the rollout; give the rollout an engine"),
    "max_tool_calling_iterations": (None, "tools belong to the environment; limit its turns"),
    "remove_unused_columns": (False, "the rollout is given whole dataset rows"),
}


@dataclass
class EpisodeGRPOConfig(GRPOConfig):  # type: ignore[misc]
    """`trl.GRPOConfig` for episodes of one or more segments.

    `per_device_train_batch_size` counts *episodes*, however many segments they have. Memory is bounded by
    `token_budget`, so gradient accumulation is not needed for it.
    """

    scale_rewards: str = field(
        default="none",
        metadata={
            "help": "What the centred reward is divided by: `none` (Dr.GRPO, arXiv 2503.20783), `group` (standard "
            "deviation of the group), `batch`."
        },
    )
    loss_denominator: str = field(
        default="prompt",
        metadata={
            "help": "What the sum over trained tokens is divided by. `prompt`: the trained tokens of the prompt's "
            "group, then the mean over live prompts (ScaleRL). `token`: the trained tokens of the batch (DAPO). "
            "`episode`: the tokens of the episode, then the mean over live episodes. `constant`: "
            "`max_completion_length`, then the mean over live episodes (Dr.GRPO)."
        },
    )
    drop_groups_without_signal: bool = field(
        default=True,
        metadata={
            "help": "Do not forward episodes whose advantage is exactly 0. The gradient is the same, and they still "
            "count in the denominators. Without effect while `beta` or `entropy_coef` is set: such rows then have a "
            "gradient."
        },
    )
    mask_unfinished_below: float | None = field(
        default=None,
        metadata={
            "help": "Leave truncated episodes out of the loss and its denominators (not out of the baseline) while the "
            "finish rate, a running mean over batches, is below this; score them as they are from then on. Early, "
            "scoring them pushes down the summaries and sub-calls that long attempts are made of (SUPO's overlong "
            "mask, arXiv 2510.06727; DAPO's overlong filtering, 2503.14476); later, staying inside the budget is to be "
            "learnt. 1.0 masks them always, None never."
        },
    )
    credit: str = field(
        default="episode",
        metadata={
            "help": "Who gets an episode's reward. `episode`: every segment gets its episode's advantage, the "
            "statistics are over episodes (SUPO, Eq. 3). The others are ablations. `last_segment`: only the context "
            "in which the episode ended is trained; its summaries and sub-calls are not. `segment_statistics`: every "
            "segment is a sample of its group, so that long episodes weigh more in the mean (SUPO, Eq. 4)."
        },
    )
    section_credit: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": f"Weights of penalties on single sections, inside successful episodes: {', '.join(TERMS)}; see "
            "`section_credit.py`."
        },
    )
    section_limits: dict[str, int] = field(
        default_factory=dict,
        metadata={
            "help": "For the penalty `long_section`: how many tokens, markers included, a section of a kind may have."
        },
    )
    section_credit_range: tuple[float, float] = field(
        default=(0.0, 1.0),
        metadata={
            "help": "Rewards of a failure and of a success. A token's reward plus its section credit is clipped to "
            "this range, and an episode whose reward is not above the first gets no section credit (FoldGRPO)."
        },
    )
    token_budget: int = field(
        default=8192,
        metadata={
            "help": "Most tokens of one forward and backward pass: rows x longest row when padded, the sum of the rows "
            "when padding-free. A segment longer than that is a micro-batch of its own."
        },
    )
    padding_free: bool = field(
        default=False,
        metadata={
            "help": "Pack the rows of a micro-batch end to end. Pays off with a variable-length attention kernel "
            "(flash); with `sdpa` the cost grows with the square of `token_budget`."
        },
    )
    sampler_correction: str = field(
        default="none",
        metadata={
            "help": "`token_truncate`: weigh every token by min(trainer's probability / sampler's, `sampler_clip`) "
            "(truncated importance sampling); costs one more forward pass."
        },
    )
    sampler_clip: float = field(default=2.0, metadata={"help": "Largest weight of `sampler_correction`."})

    def __post_init__(self) -> None:
        """Complete the TRL options, then reject what does not fit episodes."""
        # TRL 1.16 sets a default under the name that transformers 5.23 deprecates, which warns in every run.
        if getattr(self, "activation_checkpointing", True) is None:
            self.activation_checkpointing: bool | None = self.gradient_checkpointing
        super().__post_init__()
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(
                f"loss_type={self.loss_type!r} weighs rows instead of tokens; use one of {LOSS_TYPES} and choose the "
                "normalisation with `loss_denominator`."
            )
        for option, choices in (
            ("loss_denominator", LOSS_DENOMINATORS),
            ("sampler_correction", SAMPLER_CORRECTIONS),
            ("scale_rewards", REWARD_SCALES),
            ("credit", CREDITS),
        ):
            if getattr(self, option) not in choices:
                raise ValueError(f"{option}={getattr(self, option)!r} is not one of {choices}.")
        for option, (value, reason) in _FIXED.items():
            if getattr(self, option) != value:
                raise ValueError(f"{option}={getattr(self, option)!r} does not fit episodes: {reason}.")
        if self.token_budget < 1:
            raise ValueError(f"token_budget={self.token_budget} must be at least 1.")
        if self.sampler_clip <= 0:
            raise ValueError(f"sampler_clip={self.sampler_clip} must be positive.")
        below = self.mask_unfinished_below
        if below is not None and not 0 < below <= 1:
            raise ValueError(f"mask_unfinished_below={below} must be above 0 and at most 1 (always), or None (never).")
        self._check_section_credit()

    def _check_section_credit(self) -> None:
        _check_numbers("section_credit", self.section_credit, list(TERMS))
        _check_numbers("section_limits", self.section_limits, list(SectionKind))
        if ("long_section" in self.section_credit) != bool(self.section_limits):
            raise ValueError("section_credit 'long_section' and section_limits need each other; give both or neither.")
        self.section_credit_range = (float(self.section_credit_range[0]), float(self.section_credit_range[1]))
        if not self.section_credit_range[0] < self.section_credit_range[1]:
            raise ValueError(f"section_credit_range must rise, found {list(self.section_credit_range)}.")

    @property
    def drops_rows(self) -> bool:
        """Whether a row with advantage 0 has no gradient at all and is not forwarded."""
        return self.drop_groups_without_signal and self.beta == 0.0 and self.entropy_coef == 0.0


def _check_numbers(option: str, table: Any, allowed: list[str]) -> None:
    """Raise a `ValueError` unless `table` has finite numbers, none negative, under names that are allowed."""
    if not isinstance(table, dict):
        raise ValueError(f"{option} must be a table of {', '.join(allowed)}, found {table!r}.")
    for name, number in table.items():
        if name not in allowed:
            raise ValueError(f"{option} has no {name!r}; there are {', '.join(allowed)}.")
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise ValueError(f"{option} {name!r} must be a finite number that is not negative, found {number!r}.")
