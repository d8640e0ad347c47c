"""`trl.GRPOTrainer` on episodes: one advantage per episode, one row per segment.

TRL trains one row per prompt copy. Everything that assumes more or less than that sits behind a few of its methods,
which are replaced or wrapped, never copied (tests/trainers/grpo/test_contract.py fails when TRL changes them):

    _generate                             episodes from the rollout; rewards, advantages and weights; rows
    _calculate_rewards                    one reward per episode, NaN for a fault
    _generate_and_score_completions       TRL's advantages per episode become weighted advantages per row

and those of `micro_batches.py`, which run the rows through the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from ...agents.episode import Episode
from .config import EpisodeGRPOConfig
from .episodes import (
    EpisodeTerms,
    RewardShaping,
    Rollout,
    episode_terms,
    final_rewards,
    gather_from_ranks,
    sample_episodes,
    weighted_rows,
)
from .micro_batches import MicroBatchGRPOTrainer
from .records import Record, rollout_metrics
from .rows import Row, coefficients_of, pad_rows
from .run_state import FinishRate, RunState, Stateful
from .section_credit import SectionCredit
from .section_shares import SectionShares

_NOT_FOR_EPISODES = {
    "reward_funcs": "the reward is `Episode.reward`; use `shape_rewards` to change it",
    "reward_processing_classes": "the reward is `Episode.reward`",
    "rollout_func": "use `rollout`, which returns episodes",
    "tools": "tools belong to the environment",
    "environment_factory": "the rollout makes its environments",
}


def episode_reward(**_: Any) -> list[float]:
    """Name the reward column for TRL, which asks for at least one reward function. Never called."""
    raise NotImplementedError("Rewards come from the episodes.")


class EpisodeGRPOTrainer(MicroBatchGRPOTrainer):
    """GRPO on episodes of one or more segments; see `EpisodeGRPOConfig` for the loss.

    Args:
        model: A causal language model, or where to load one from.
        rollout: Makes one episode for each dataset row.
        args: Options.
        train_dataset: Rows with at least a column `prompt` (the id of the task); the rollout is given whole rows.
        eval_dataset: Rows of the same kind.
        processing_class: The tokenizer; it pads, and decodes episodes for the table of completions.
        shape_rewards: Replaces `Episode.reward` by rewards that may depend on the whole group; of several, each gets
            what the one before it made. An evaluation leaves no trace in their state.
        section_credit: An extra reward on stretches of an episode's tokens, besides `args.section_credit`.
        callbacks, optimizers, peft_config, quantization_config: As for `trl.GRPOTrainer`.
    """

    _tag_names: ClassVar[list[str]] = ["forethought", "trl", "grpo"]

    def __init__(
        self,
        model: Any,
        rollout: Rollout,
        args: EpisodeGRPOConfig,
        train_dataset: Any,
        *,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        shape_rewards: RewardShaping | Sequence[RewardShaping] | None = None,
        section_credit: SectionCredit | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        quantization_config: Any = None,
        **unsupported: Any,
    ) -> None:
        for name in unsupported:
            raise TypeError(f"EpisodeGRPOTrainer takes no {name!r}: {_NOT_FOR_EPISODES.get(name, 'unknown argument')}.")
        if not isinstance(args, EpisodeGRPOConfig):
            raise TypeError(f"args must be an EpisodeGRPOConfig, not a {type(args).__name__}.")
        self.shapings: list[RewardShaping] = (
            list(shape_rewards) if isinstance(shape_rewards, Sequence) else [shape_rewards] if shape_rewards else []
        )
        self._finish_rate = FinishRate()
        parts: dict[str, Stateful] = {"finish_rate": self._finish_rate}
        for number, shape in enumerate(self.shapings):
            if isinstance(shape, Stateful):
                parts[f"{number}/{type(shape).__name__}"] = shape
        super().__init__(
            model=model,
            reward_funcs=[episode_reward],
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=[*(callbacks or []), RunState(parts)],
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self.rollout = rollout
        self.section_credit = section_credit
        self._dataset_rows: list[Mapping[str, Any]] = []
        self._records: list[Record] = []
        self._coefficients: torch.Tensor | None = None

    # ------------------------------------------------------------------ episodes -> rows

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """Run the rollout and turn its episodes into rows. Returns TRL's 8-tuple: ids per row, texts per episode."""
        mode = "train" if self.model.training else "eval"
        started = time.perf_counter()
        episodes = sample_episodes(self._dataset_rows, self, self._vocab_size)
        self._metrics[mode]["rollout/duration_s"].append(time.perf_counter() - started)

        group = self.num_generations if mode == "train" else self.num_generations_eval
        rewards = self._rewards(episodes, group, mode)
        local = [Record.of(e, reward, self.args.credit) for e, reward in zip(episodes, rewards, strict=True)]
        self._records = gather_from_ranks(local)
        if mode == "train":
            self._finish_rate.note(self._records)
        masked = self._finish_rate.is_below(self.args.mask_unfinished_below)
        everyone = episode_terms(self._records, self.args, group, mask_unfinished=masked)
        first = self.accelerator.process_index * len(local)
        rows, shares = [], SectionShares()
        for index, episode in enumerate(episodes):
            terms = everyone[first + index]
            weighted = weighted_rows(episode, index, local[index], terms, self.args, self.section_credit)
            shares.note(weighted, episode)
            rows += [row for row in weighted if row.has_gradient or not self.args.drops_rows]
        rows = self._equalize(rows, mode)
        self._coefficients = coefficients_of(rows)
        self._log_rollout(episodes, mode)
        self._log_loss(everyone, shares, group, mode)
        return (
            [row.prompt_ids for row in rows],
            [row.completion_ids for row in rows],
            [row.mask for row in rows],
            [self._text(episode) if self.log_completions else "" for episode in episodes],
            [row.logprobs for row in rows],
            {},
            None,
            [],
        )

    def _rewards(self, episodes: list[Episode], group: int, mode: str) -> list[float]:
        """Reward of each local episode. Every rank shapes the episodes of all: their states remain the same."""
        if not self.shapings:
            return [episode.reward for episode in episodes]
        stateful = [shape for shape in self.shapings if isinstance(shape, Stateful)] if mode == "eval" else []
        before = [shape.state_dict() for shape in stateful]
        rewards = final_rewards(gather_from_ranks(episodes), self.shapings, group, self.state.global_step)
        for shape, state in zip(stateful, before, strict=True):
            shape.load_state_dict(state)
        first = self.accelerator.process_index * len(episodes)
        return rewards[first : first + len(episodes)]

    def _equalize(self, rows: list[Row], mode: str) -> list[Row]:
        """Pad to equally many rows on every rank, a multiple of the slices that TRL will cut them into."""
        slices = self.args.steps_per_generation if mode == "train" else 1
        most = int(self.accelerator.gather(torch.tensor([len(rows)], device=self.accelerator.device)).max())
        return pad_rows(rows, max(1, -(-most // slices)) * slices, self._tokenizer.pad_token_id)

    def _text(self, episode: Episode) -> str:
        """Render an episode for the table of completions: every segment, special tokens included."""
        texts = self._tokenizer.batch_decode([segment.token_ids for segment in episode.segments])
        return "\n".join(f"[{s.kind}] {text}" for s, text in zip(episode.segments, texts, strict=True))

    def _log_rollout(self, episodes: list[Episode], mode: str) -> None:
        if mode == "train":
            self.state.num_input_tokens_seen += sum(record.all_tokens for record in self._records)
        self._metrics[mode]["num_tokens"] = [self.state.num_input_tokens_seen]
        for name, value in rollout_metrics(self._records, shaped=bool(self.shapings)).items():
            self._metrics[mode][name].append(value)
        if self.log_completions:
            self._pending_extra_logs["status"].extend(episode.status.value for episode in episodes)
            self._pending_extra_logs["stop_reason"].extend(episode.stop_reason for episode in episodes)

    def _log_loss(self, terms: list[EpisodeTerms], shares: SectionShares, group: int, mode: str) -> None:
        """What the gradient is made of, over all ranks."""
        total = SectionShares()
        for shares_of_rank in gather_from_ranks([shares]):
            total += shares_of_rank
        metrics = total.metrics()
        silent = [not any(t.advantage for t in terms[i : i + group]) for i in range(0, len(terms), group)]
        metrics["rollout/groups_without_signal"] = sum(silent) / len(silent)
        if self.args.mask_unfinished_below is not None and self._finish_rate.value is not None:
            metrics["rollout/finish_rate_running"] = self._finish_rate.value
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)

    # ------------------------------------------------------------------ rows -> weighted advantages

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        """(E, 1) rewards over all ranks; NaN, which TRL leaves out of its statistics, for a fault."""
        rewards = [record.reward if record.counted else float("nan") for record in self._records]
        return torch.tensor(rewards, dtype=torch.float32, device=self.accelerator.device).unsqueeze(1)

    def _generate_and_score_completions(self, inputs: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Let TRL build the batch, then replace its advantages (one per episode) by (R,) or (R, C) of the rows."""
        self._dataset_rows = list(inputs)
        output: dict[str, Any] = super()._generate_and_score_completions([{"prompt": row["prompt"]} for row in inputs])
        if self._coefficients is None:
            raise RuntimeError("TRL no longer calls `_generate`.")
        # TRL divides by the trained tokens of all ranks; multiplying by them leaves our own denominator. The surrogate
        # is positively homogeneous in the advantage, so a weight folded into it is a weight on the loss.
        total = output["num_items_in_batch"].clamp(min=1).double()
        advantages = (self._coefficients.to(total.device) * total).float()
        if advantages.dim() == 2:  # TRL may have padded the completions further
            advantages = functional.pad(advantages, (0, output["completion_ids"].size(1) - advantages.size(1)))
        if self.args.sampler_correction == "token_truncate":
            by_token = advantages if advantages.dim() == 2 else advantages.unsqueeze(1)
            advantages = by_token * self._truncated_ratio(output)
        output["advantages"] = advantages
        return output

    @torch.no_grad()
    def _truncated_ratio(self, output: dict[str, Any]) -> torch.Tensor:
        """(R, C) weights min(p_trainer / p_sampler, `sampler_clip`) (truncated importance sampling)."""
        sampler = output.pop("sampling_per_token_logps")
        mask = output["completion_mask"] * output["tool_mask"]
        trainer = output.get("old_per_token_logps")
        if trainer is None:
            trainer, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
                output["completion_ids"].size(1),
                batch_size=1,
            )
        self._mismatch.note(trainer, sampler, mask)
        ratio = torch.nan_to_num(trainer - sampler, nan=0.0).exp()
        return torch.where(mask.bool(), ratio.clamp(max=self.args.sampler_clip), 1.0)
