"""The seams of TRL 1.16 that `EpisodeGRPOTrainer` replaces or wraps. When one of these fails, read that method anew."""

import inspect
from pathlib import Path

import pytest
import trl
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import utils as trl_utils

from .tiny_grpo import make_trainer

SEAMS = {
    "_generate": ["self", "prompts"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_prepare_inputs": ["self", "generation_batch"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "prediction_step": ["self", "model", "inputs", "prediction_loss_only", "ignore_keys"],
    "_compute_loss": ["self", "model", "inputs"],
}


def test_version() -> None:
    major, minor = trl.__version__.split(".")[:2]
    assert (major, minor) == ("1", "16"), "trl is pinned to >=1.16,<1.17: check every seam before moving the pin"


@pytest.mark.parametrize("name", SEAMS)
def test_signature(name: str) -> None:
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == SEAMS[name]


def test_scoring_signature() -> None:
    parameters = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert parameters[:8] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
    ]


def test_generate_returns_eight_things() -> None:
    assert (
        "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
        in inspect.getsource(GRPOTrainer._generate)
    )


def test_private_names() -> None:
    source = inspect.getsource(GRPOTrainer)
    for name in (
        "self._step",
        "self._metrics",
        "self._current_train_step_time",
        "self._entropy_bonus_enabled",
        "self._pending_extra_logs",
        "self._is_vlm",
        "self._tokenizer",
        "self.aux_loss_enabled",
        "self.entropy_coef",
    ):
        assert name in source, f"TRL no longer uses {name}"
    assert "_CHUNKED_LOGPROB_CHUNK_SIZE" in inspect.getsource(trl_utils.add_fused_lm_head)
    assert "shift_labels" in inspect.getsource(trl_utils.add_fused_lm_head)


@pytest.mark.parametrize("token_count_losses", [["cispo", "dapo", "vespo"]])
def test_these_losses_divide_by_the_token_count(token_count_losses: list[str]) -> None:
    source = inspect.getsource(GRPOTrainer._compute_loss)
    _, branch = source.split(f"elif self.loss_type in {str(token_count_losses).replace(chr(39), chr(34))}:")
    branch = branch.split("elif")[0]
    assert 'inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes' in branch
    assert "self.current_gradient_accumulation_steps / self.args.steps_per_generation" in branch


def test_keys_of_a_batch(tmp_path: Path) -> None:
    batch = make_trainer(tmp_path)._generate_and_score_completions([{"prompt": "t"}] * 8)
    assert set(batch) == {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "sampling_per_token_logps",
        "tool_mask",
    }
    off_policy = make_trainer(tmp_path, num_iterations=2)._generate_and_score_completions([{"prompt": "t"}] * 8)
    assert set(off_policy) - set(batch) == {"old_per_token_logps"}


def test_options_that_are_rejected_exist() -> None:
    from forethought.trainers.grpo.config import _FIXED

    assert set(_FIXED) <= set(GRPOConfig.__dataclass_fields__)
