"""`trl.GRPOTrainer` with memory bounded by a budget of tokens, not by the longest row.

_prepare_inputs, training_step,       one accumulation slice becomes several micro-batches
  prediction_step
_get_per_token_logps_and_entropies    the forward pass: left-aligned or packed, LM head on sampled tokens only
_compute_loss                         entropy bonus as a token mean; trainer's against sampler's log-probabilities
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from transformers import Trainer
from trl import GRPOTrainer

from .batches import cut, select_rows
from .config import EpisodeGRPOConfig
from .forward import score_rows
from .mismatch import SamplerMismatch


class MicroBatchGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO whose gradient does not depend on how rows are cut into micro-batches.

    Text only: rows are token ids with a `tool_mask`.
    """

    args: EpisodeGRPOConfig
    _step: int
    _current_train_step_time: float

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._is_vlm:
            raise TypeError("Episodes hold text tokens only; pass a tokenizer, not a processor.")
        if self.aux_loss_enabled:
            raise ValueError("The load-balancing loss is a mean per micro-batch; set router_aux_loss_coef=0.0.")
        # TRL's bonus is a mean per micro-batch, which would grow with their number; `_compute_loss` adds a token mean.
        self._entropy_bonus_enabled = False
        self._vocab_size: int = self.model.config.get_text_config().vocab_size
        self._scored: torch.Tensor | None = None
        self._last_scores: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._mismatch = SamplerMismatch()

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL, but let micro-batches, which are prepared already, pass."""
        if isinstance(generation_batch, dict) and "completion_ids" in generation_batch:
            return generation_batch
        return super()._prepare_inputs(generation_batch)

    def _cuts(self, lengths: torch.Tensor) -> Iterator[torch.Tensor]:
        """Row indices of each micro-batch, longest rows first.

        Ranks run collectives inside each micro-batch, so they cut at the same places: where the longest over ranks of
        the rows at each place fit.
        """
        order = lengths.argsort(descending=True, stable=True)
        places = self.accelerator.gather(lengths[order]).view(-1, len(order)).amax(0)
        for start, end in cut(places.tolist(), self.args.token_budget, padded=not self.args.padding_free):
            yield order[start:end]

    def _micro_batches(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        lengths = inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)
        return [select_rows(inputs, index) for index in self._cuts(lengths)]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on one accumulation slice, micro-batch by micro-batch; gradients sync on the last."""
        started = time.perf_counter()
        model.train()
        if self._step == 0:  # a resumed run may begin inside a generation batch
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        batches = self._micro_batches(self._prepare_inputs(inputs))
        syncs = self.accelerator.sync_gradients
        total = torch.zeros((), device=self.accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            self.accelerator.gradient_state._set_sync_gradients(syncs and last)
            with nullcontext() if last else self.accelerator.no_sync(model):
                total += Trainer.training_step(self, model, batch, num_items_in_batch)
        self._log_mismatch("train")
        self._step += 1
        self._current_train_step_time += time.perf_counter() - started
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._metrics["train"]["step_time"].append(self._current_train_step_time)
            self._current_train_step_time = 0.0
        return total

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, None, None]:
        """Loss of one evaluation batch, micro-batch by micro-batch."""
        total = torch.zeros((), device=self.accelerator.device)
        for batch in self._micro_batches(self._prepare_inputs(inputs)):
            total += super().prediction_step(model, batch, prediction_loss_only, ignore_keys)[0]
        self._log_mismatch("eval")
        return total, None, None

    def _get_per_token_logps_and_entropies(
        self,
        model: Callable[..., Any],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **multimodal: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """(B, C) log-probabilities and entropies; 0 where nothing is scored.

        With `batch_size` this is a pass of TRL over a whole generation batch, which is cut by `token_budget` instead.
        """
        if compute_aux_loss or any(value is not None for value in multimodal.values()):
            raise NotImplementedError("Episodes hold text tokens only, without an auxiliary loss.")
        if batch_size is None:
            scored = attention_mask[:, -logits_to_keep:] if self._scored is None else self._scored
            logps, entropies = self._score(model, input_ids, attention_mask, scored)
            self._last_scores = (logps, entropies)
            return logps, entropies if compute_entropy else None, None
        scored = attention_mask[:, -logits_to_keep:]
        logps = torch.zeros(scored.shape, device=scored.device)
        entropies = torch.zeros_like(logps)
        for index in self._cuts(attention_mask.sum(1)):
            part, part_entropies = self._score(model, input_ids[index], attention_mask[index], scored[index])
            logps[index] = part.float()
            if part_entropies is not None:
                entropies[index] = part_entropies.float()
        return logps, entropies if compute_entropy else None, None

    def _score(
        self, model: Callable[..., Any], ids: torch.Tensor, mask: torch.Tensor, scored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        with self.accelerator.autocast():
            return score_rows(
                model, ids, mask, scored, vocab_size=self._vocab_size, padding_free=self.args.padding_free
            )

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's loss; plus the entropy bonus as a mean over the trained tokens of the generation batch."""
        self._scored = inputs["completion_mask"] * inputs["tool_mask"]
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            mask, self._scored = self._scored, None
        if self._last_scores is None:
            raise RuntimeError("TRL no longer scores tokens through `_get_per_token_logps_and_entropies`.")
        (logps, entropies), self._last_scores = self._last_scores, None
        mode = "train" if self.model.training else "eval"
        if self.entropy_coef != 0.0 and entropies is not None:
            tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
            if mode == "train":
                tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
            loss = loss - self.entropy_coef * (entropies * mask).sum() / tokens
        if inputs["num_items_in_batch"] == 0:
            self._metrics[mode]["entropy"][-1] = float("nan")  # nothing was scored, which TRL logs as 0
        # With old log-probabilities the policy may have moved since it sampled: that is drift, not a mismatch.
        if "sampling_per_token_logps" in inputs and "old_per_token_logps" not in inputs:
            self._mismatch.note(logps.detach(), inputs["sampling_per_token_logps"], mask)
        return loss

    def _log_mismatch(self, mode: str) -> None:
        for name, value in self._mismatch.flush(self.accelerator).items():
            self._metrics[mode][name].append(value)
