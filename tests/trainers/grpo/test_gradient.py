"""The gradient of an update is that of the loss as written in `tiny_grpo.reference_gradient`."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.agents.episode import Episode, Segment, SegmentKind, Status
from forethought.trainers.grpo import EpisodeGRPOTrainer

from .tiny_grpo import FakeRollout, distance, make_episode, make_model, make_trainer, one_gradient, reference_gradient
from .tiny_grpo import segment_logprobs as logprobs_of

DENOMINATORS = ("prompt", "token", "episode", "constant")
TOLERANCE = 1e-5


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize(
    "options",
    [
        {"token_budget": 60},
        {"token_budget": 60, "padding_free": True},
        {"token_budget": 60, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    ],
    ids=["padded", "padding_free", "two_accumulated"],
)
def test_equals_the_plainly_written_loss(tmp_path: Path, denominator: str, options: dict[str, Any]) -> None:
    gradient = one_gradient(tmp_path, loss_denominator=denominator, **options)
    reference = reference_gradient([make_episode(i) for i in range(8)], 4, denominator)
    assert distance(gradient, reference) < TOLERANCE


def test_equals_the_plainly_written_loss_on_two_ranks(tmp_path: Path) -> None:
    """Every case of `two_ranks.py`: denominators, accumulation, packing, straddling groups, uneven trees."""
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.trainers.grpo.two_ranks", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    distances = json.loads((tmp_path / "distances.json").read_text())
    assert len(distances) == 15
    assert {case: d for case, d in distances.items() if not d < TOLERANCE} == {}


def test_does_not_depend_on_the_token_budget(tmp_path: Path) -> None:
    wide, narrow, single = (one_gradient(tmp_path, token_budget=budget) for budget in (100_000, 64, 1))
    assert distance(narrow, wide) < TOLERANCE
    assert distance(single, wide) < TOLERANCE


def test_entropy_bonus_does_not_depend_on_the_token_budget(tmp_path: Path) -> None:
    def bonus(budget: int, **options: Any) -> torch.Tensor:
        flat = FakeRollout(lambda row, place, step: make_episode(place, reward=1.0))  # no policy gradient
        return one_gradient(tmp_path, flat, token_budget=budget, entropy_coef=0.1, **options)

    model = make_model()
    segments = [s for i in range(8) for s in make_episode(i).segments]
    total = sum(sum(s.sampled) for s in segments)
    for segment in segments:
        log_p = model(input_ids=torch.tensor([segment.token_ids])).logits[0, :-1].log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        (-0.1 * (entropy * torch.tensor(segment.sampled[1:])).sum() / total).backward()
    reference = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert distance(bonus(100_000), reference) < TOLERANCE
    assert distance(bonus(64), reference) < TOLERANCE
    halves = bonus(64, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert distance(halves, reference) < TOLERANCE


def test_kl_term_does_not_depend_on_the_token_budget(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "start")
    make_model().save_pretrained(tmp_path / "reference")

    def gradient(budget: int) -> torch.Tensor:
        model = make_model()
        model.config._name_or_path = str(tmp_path / "reference")  # where TRL loads the reference model from
        with torch.no_grad():
            model.model.norm.weight.add_(0.3)
        return one_gradient(tmp_path, model=model, token_budget=budget, beta=0.1)

    assert distance(gradient(64), gradient(100_000)) < TOLERANCE


def test_cutting_an_episode_into_segments_leaves_it_unchanged(tmp_path: Path) -> None:
    """[p a* o b*] in one segment, and as [p a*] with [p a o b*], where * was sampled."""

    def pieces(cut: bool, row: Any, place: int, step: int) -> Episode:
        whole = make_episode(place, segments=1)
        whole.segments[0] = Segment()
        generator = torch.Generator().manual_seed(place)
        p, a, o, b = (torch.randint(3, 40, (3 + place % 3,), generator=generator).tolist() for _ in range(4))
        first = whole.segments[0]
        first.give(p)
        first.append_sampled(a, [-1.0] * len(a))
        if cut and place % 2:
            second = Segment(kind=SegmentKind.AFTER_SUMMARY, parent=(0, len(p) + len(a)))
            second.give(p + a)
            whole.segments.append(second)
        whole.segments[-1].give(o)
        whole.segments[-1].append_sampled(b, [-1.0] * len(b))
        return whole

    for denominator in DENOMINATORS:
        one, two = (
            one_gradient(
                tmp_path,
                FakeRollout(partial(pieces, cut)),
                loss_denominator=denominator,
            )
            for cut in (False, True)
        )
        assert distance(two, one) < TOLERANCE


def _with_faults(*places: int, status: Status = Status.FAULT, reward: float = 0.0) -> FakeRollout:
    def make(row: Any, place: int, step: int) -> Episode:
        episode = make_episode(place)
        if place in places:
            episode.status, episode.reward = status, reward
        return episode

    return FakeRollout(make)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_a_fault_changes_neither_baseline_nor_loss(tmp_path: Path, denominator: str) -> None:
    rollout = _with_faults(1, 6, reward=99.0)
    gradient = one_gradient(tmp_path, rollout, loss_denominator=denominator)
    assert distance(gradient, reference_gradient(rollout.episodes, 4, denominator)) < TOLERANCE
    other = _with_faults(1, 6, reward=float("nan"))
    assert torch.equal(gradient, one_gradient(tmp_path, other, loss_denominator=denominator))


def test_a_group_of_faults_gives_no_gradient(tmp_path: Path) -> None:
    rollout = _with_faults(0, 1, 2, 3)
    gradient = one_gradient(tmp_path, rollout)
    assert distance(gradient, reference_gradient(rollout.episodes, 4, "prompt")) < TOLERANCE
    assert not one_gradient(tmp_path, _with_faults(*range(8))).any()


def test_a_fault_may_hold_anything(tmp_path: Path) -> None:
    def make(row: Any, place: int, step: int) -> Episode:
        episode = make_episode(place)
        if place == 2:
            episode.status, episode.segments = Status.FAULT, [] if step else [Segment(token_ids=[1], sampled=[1])]
        return episode

    make_trainer(tmp_path, FakeRollout(make), max_steps=2).train()


@pytest.mark.parametrize("mask", [False, True])
def test_unfinished_episodes_stay_in_the_baseline(tmp_path: Path, mask: bool) -> None:
    rollout = _with_faults(0, 5, status=Status.TRUNCATED, reward=0.25)
    gradient = one_gradient(tmp_path, rollout, mask_unfinished_below=1.0 if mask else None)
    reference = reference_gradient(rollout.episodes, 4, "prompt", mask_unfinished=mask)
    assert distance(gradient, reference) < TOLERANCE


def test_groups_without_signal_may_be_dropped(tmp_path: Path) -> None:
    def make(row: Any, place: int, step: int) -> Episode:
        return make_episode(place, reward=0.1 if place < 4 else None)

    seen: dict[bool, int] = {}
    gradients = {}
    for drop in (False, True):
        rollout = FakeRollout(make)
        trainer = make_trainer(tmp_path, rollout, drop_groups_without_signal=drop)
        batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 8)
        seen[drop] = len(batch["prompt_ids"])
        gradients[drop] = one_gradient(tmp_path, FakeRollout(make), drop_groups_without_signal=drop)
    assert seen[True] < seen[False]
    assert distance(gradients[True], gradients[False]) < TOLERANCE


def test_unsampled_tokens_get_no_gradient(tmp_path: Path) -> None:
    """The ids that are only given reach the gradient through the context alone: as labels they have weight 0."""
    trainer = make_trainer(tmp_path)
    trainer.train()
    batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 8)
    scores: list[torch.Tensor] = []
    inner = trainer._score

    def keep(*args: Any) -> Any:
        logps, entropies = inner(*args)
        logps.retain_grad()
        scores.append(logps)
        return logps, entropies

    trainer._score = keep  # type: ignore[method-assign, assignment]
    for part in trainer._micro_batches(batch):
        torch.autograd.backward(trainer._compute_loss(trainer.model, part))
        mask = part["tool_mask"] * part["completion_mask"]
        assert scores[-1].grad is not None
        assert not scores[-1].grad[mask == 0].any()
        assert scores[-1].grad[(mask == 1) & (part["advantages"] != 0)[:, None]].all()


def test_truncated_importance_sampling_weighs_each_token(tmp_path: Path) -> None:
    gradient = one_gradient(tmp_path, token_budget=60, sampler_correction="token_truncate", sampler_clip=1.5)
    reference = reference_gradient(
        [make_episode(i) for i in range(8)],
        4,
        "prompt",
        weigh=lambda ours, theirs: (ours - theirs).exp().clamp(max=1.5),
    )
    assert distance(gradient, reference) < TOLERANCE


def test_trained_ids_are_the_sampled_ids(tmp_path: Path) -> None:
    rollout = FakeRollout()
    trainer = make_trainer(tmp_path, rollout, drop_groups_without_signal=False)
    batch = trainer._generate_and_score_completions([{"prompt": "t"}] * 8)
    trained = []
    for i in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
        inside = batch["completion_mask"][i].bool()
        completion, mask = batch["completion_ids"][i][inside].tolist(), batch["tool_mask"][i][inside].tolist()
        trained.append((prompt + completion, [0] * len(prompt) + mask))
    expected = []
    for segment in (s for e in rollout.episodes for s in e.segments):
        end = max(i for i, sampled in enumerate(segment.sampled) if sampled) + 1
        expected.append((segment.token_ids[:end], segment.sampled[:end]))
    assert trained == expected


def test_exact_sampler_logprobs_give_no_mismatch(tmp_path: Path) -> None:
    def make_exact(trainer_model: Any, temperature: float) -> FakeRollout:
        def make(row: Any, place: int, step: int) -> Episode:
            episode = make_episode(place)
            for segment in episode.segments:
                ids = torch.tensor([segment.token_ids])
                with torch.no_grad():
                    logits = trainer_model(input_ids=ids).logits[0, :-1] / temperature
                exact = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
                segment.logprobs = [0.0, *(exact * torch.tensor(segment.sampled[1:])).tolist()]
            return episode

        return FakeRollout(make)

    def mismatch(trainer: EpisodeGRPOTrainer) -> dict[str, float]:
        trainer.train()
        return {k: v for k, v in trainer.state.log_history[0].items() if k.startswith("sampling/")}

    cases: list[dict[str, Any]] = [
        {},
        {"sampler_correction": "token_truncate"},
        {"temperature": 0.7, "padding_free": True},
    ]
    for options in cases:
        model = make_model()
        rollout = make_exact(model, options.get("temperature", 1.0))
        exact = mismatch(make_trainer(tmp_path, rollout, model=model, token_budget=60, **options))
        assert exact["sampling/sampling_logp_difference/max"] < 1e-4
        assert abs(exact["sampling/importance_sampling_ratio/mean"] - 1) < 1e-4
    off = mismatch(make_trainer(tmp_path, token_budget=60, drop_groups_without_signal=False))
    gaps = [
        abs(ours - theirs)
        for e in (make_episode(i) for i in range(8))
        for s in e.segments
        for ours, theirs, sampled in zip(
            logprobs_of(make_model(), s).tolist(), s.logprobs[1:], s.sampled[1:], strict=True
        )
        if sampled
    ]
    assert off["sampling/sampling_logp_difference/mean"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)
    assert off["sampling/sampling_logp_difference/max"] == pytest.approx(max(gaps), rel=1e-4)
