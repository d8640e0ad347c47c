"""A tiny model, made-up episodes, and the loss written out plainly: what the trainer is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback

from forethought.agents.episode import Episode, Segment, SegmentKind, Status
from forethought.trainers.grpo import EpisodeGRPOConfig, EpisodeGRPOTrainer

VOCABULARY = 48
PAD, EOS = 0, 1


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def make_model(hidden: int = 32, layers: int = 2, vocabulary: int = VOCABULARY) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def make_episode(key: int, *, reward: float | None = None, segments: int | None = None) -> Episode:
    """An episode that depends on `key` alone: 1 to 4 segments of sampled and given stretches."""
    rng = random.Random(key)
    episode = Episode(id=f"{key}/0", task_id=str(key), attempt=0, env={}, task={}, seed=key)
    for index in range(rng.randint(1, 4) if segments is None else segments):
        segment = Segment()
        if index:
            segment.kind, segment.parent = SegmentKind.AFTER_SUMMARY, (index - 1, len(episode.segments[-1].token_ids))
        segment.give(_ids(rng, 2, 9))
        for _ in range(rng.randint(1, 3)):
            sampled = _ids(rng, 1, 6)
            segment.append_sampled(sampled, [rng.uniform(-5.0, -3.0) for _ in sampled])
            segment.give(_ids(rng, 0, 4))
        episode.segments.append(segment)
    episode.reward = rng.randint(0, 4) / 4 if reward is None else reward
    episode.scores = {"correct": float(episode.reward > 0.5)}
    return episode


def _ids(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(low, high))]


def by_position(row: Mapping[str, Any], place: int, step: int) -> Episode:
    """Episode of the row at global `place` of the batch in `step`."""
    return make_episode(1000 * step + place)


class FakeRollout:
    """Calls `make(row, place in the global batch, step)` for each row, and keeps what it was given and returned."""

    def __init__(self, make: Callable[[Mapping[str, Any], int, int], Episode] = by_position) -> None:
        self.make = make
        self.rows: list[Mapping[str, Any]] = []
        self.episodes: list[Episode] = []
        self.steps: list[int] = []

    def __call__(self, rows: list[Mapping[str, Any]], trainer: EpisodeGRPOTrainer) -> list[Episode]:
        first = trainer.accelerator.process_index * len(rows)
        step = trainer.state.global_step
        assert not trainer.model.training
        self.rows, self.steps = rows, [*self.steps, step]
        self.episodes = [self.make(row, first + i, step) for i, row in enumerate(rows)]
        return self.episodes


class Gradient(TrainerCallback):
    """Keeps the gradient of every update, as one vector."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.values.append(flat_gradient(model))


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.detach().flatten() for p in model.parameters()]
    )


def make_trainer(
    folder: Path | str,
    rollout: FakeRollout | None = None,
    *,
    model: Any = None,
    shape_rewards: Any = None,
    section_credit_hook: Any = None,
    callbacks: Sequence[Any] = (),
    prompts: int = 24,
    **options: Any,
) -> EpisodeGRPOTrainer:
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 32,
        "max_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return EpisodeGRPOTrainer(
        model=make_model() if model is None else model,
        rollout=FakeRollout() if rollout is None else rollout,
        args=EpisodeGRPOConfig(**(defaults | options)),
        train_dataset=Dataset.from_list([{"prompt": f"task-{i}", "level": i % 5} for i in range(prompts)]),
        processing_class=make_tokenizer(),
        shape_rewards=shape_rewards,
        section_credit=section_credit_hook,
        callbacks=list(callbacks),
    )


def one_gradient(folder: Path | str, rollout: FakeRollout | None = None, **options: Any) -> torch.Tensor:
    """Gradient of the first update."""
    gradient = Gradient()
    make_trainer(folder, rollout, callbacks=[gradient], **options).train()
    return gradient.values[0]


def segment_logprobs(model: Any, segment: Segment) -> torch.Tensor:
    """(T - 1,) log-probability of each token after the first, from one plain forward pass of this segment alone."""
    ids = torch.tensor([segment.token_ids])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    logprobs: torch.Tensor = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return logprobs


def reference_gradient(
    episodes: Sequence[Episode],
    group: int,
    denominator: str,
    *,
    constant: int = 32,
    mask_unfinished: bool = False,
    weigh: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    model: Any = None,
    samples: Callable[[Episode], int] = lambda episode: 1,
    trained: Callable[[Episode], Sequence[int]] = lambda episode: range(len(episode.segments)),
    extra: Callable[[Episode, int], Sequence[float]] | None = None,
) -> torch.Tensor:
    """Gradient of the loss, written out with one forward pass per segment and plain loops.

    Args:
        episodes: Group by group.
        group: Episodes per group.
        denominator: Name of the denominator.
        constant: Its C.
        mask_unfinished: Leave truncated episodes out of the loss.
        weigh: (trainer's, sampler's log-probabilities) give an extra weight per token.
        model: What is differentiated.
        samples: How many samples an episode is in the mean of its group.
        trained: Which segments of an episode are in the loss.
        extra: What is added to the advantage of each token of a segment.
    """
    model = make_model() if model is None else model
    model.zero_grad()
    groups = [episodes[i : i + group] for i in range(0, len(episodes), group)]

    def live(episode: Episode) -> bool:
        return not (episode.status is Status.FAULT or (mask_unfinished and episode.status is Status.TRUNCATED))

    def tokens(episode: Episode) -> int:
        return sum(sum(episode.segments[index].sampled) for index in trained(episode))

    all_live = [e for e in episodes if live(e)]
    live_prompts = sum(any(live(e) for e in members) for members in groups)
    for members in groups:
        counted = [e for e in members if e.status is not Status.FAULT]
        for episode in members:
            if not live(episode):
                continue
            mean = sum(samples(e) * e.reward for e in counted) / sum(map(samples, counted))
            advantage = episode.reward - mean
            divisor = {
                "prompt": live_prompts * sum(tokens(e) for e in members if live(e)),
                "token": sum(tokens(e) for e in all_live),
                "episode": len(all_live) * tokens(episode),
                "constant": len(all_live) * constant,
            }[denominator]
            for index in trained(episode):
                segment = episode.segments[index]
                logprobs = segment_logprobs(model, segment)
                advantages = torch.full((len(segment.token_ids),), advantage)
                if extra is not None:
                    advantages = advantages + torch.tensor(extra(episode, index))
                sampled = torch.tensor(segment.sampled[1:], dtype=torch.float32)
                if weigh is not None:
                    sampled = sampled * weigh(logprobs.detach(), torch.tensor(segment.logprobs[1:]))
                torch.autograd.backward(-(advantages[1:] / divisor * logprobs * sampled).sum())
    return flat_gradient(model)


def distance(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((ours - reference).norm() / reference.norm())
