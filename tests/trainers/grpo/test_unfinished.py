"""Unfinished episodes: left out of the loss while most do not finish, scored as they are from then on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.agents.episode import Episode, Status
from forethought.trainers.rewards import LengthPenalty

from .tiny_grpo import FakeRollout, Gradient, distance, make_episode, make_trainer, reference_gradient

UNFINISHED = [6, 0, 2, 2]
"""How many of the eight episodes of each step a budget ends: finish rates of .25, 1, .75, .75."""


def make(row: Any, place: int, step: int) -> Episode:
    episode = make_episode(1000 * step + place)
    if place < UNFINISHED[step]:
        episode.status = Status.TRUNCATED
    return episode


def gradients(folder: Path, *, steps: int = 4, resume: bool = False, **options: Any) -> tuple[list[torch.Tensor], Any]:
    gradient = Gradient()
    trainer = make_trainer(
        folder, FakeRollout(make), callbacks=[gradient], max_steps=steps, learning_rate=0.0, **options
    )
    trainer.train(resume_from_checkpoint=resume)
    return gradient.values, trainer


def reference(step: int, *, masked: bool) -> torch.Tensor:
    return reference_gradient([make(None, place, step) for place in range(8)], 4, "prompt", mask_unfinished=masked)


def test_they_are_masked_until_the_running_finish_rate_is_high(tmp_path: Path) -> None:
    found, trainer = gradients(tmp_path, mask_unfinished_below=0.35)
    running = [0.25, 0.25 + 0.75 / 10]
    running += [running[1] + (0.75 - running[1]) / 10]  # .3675 is above
    running += [running[2] + (0.75 - running[2]) / 10]
    logged = [entry["rollout/finish_rate_running"] for entry in trainer.state.log_history[:4]]
    assert logged == pytest.approx(running)
    for step, masked in enumerate([True, True, False, False]):
        assert distance(found[step], reference(step, masked=masked)) < 1e-5
    assert distance(found[2], reference(2, masked=True)) > 0.01


@pytest.mark.parametrize(("below", "masked"), [(None, False), (1.0, True)], ids=["never", "always"])
def test_never_and_always(tmp_path: Path, below: float | None, masked: bool) -> None:
    found, _ = gradients(tmp_path, mask_unfinished_below=below)
    for step in range(4):
        assert distance(found[step], reference(step, masked=masked)) < 1e-5


def test_a_resumed_run_remembers_the_finish_rate(tmp_path: Path) -> None:
    options: dict[str, Any] = {"mask_unfinished_below": 0.35, "save_strategy": "steps", "save_steps": 2}
    unbroken, _ = gradients(tmp_path / "unbroken", **options)
    gradients(tmp_path / "broken", steps=2, **options)
    resumed, trainer = gradients(tmp_path / "broken", resume=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(resumed, unbroken[2:], strict=True))
    assert trainer.state.log_history[-2]["rollout/finish_rate_running"] == pytest.approx(0.40575)


def test_a_resumed_run_remembers_what_its_rewards_remember(tmp_path: Path) -> None:
    # The second half of the run could not begin the penalty: no accuracy is above 1.
    for steps, start_accuracy in ((1, 0.0), (2, 1.1)):
        penalty = LengthPenalty(weight=0.1, max_tokens=10, start_accuracy=start_accuracy)
        trainer = make_trainer(
            tmp_path, shape_rewards=[penalty], max_steps=steps, save_strategy="steps", save_steps=1
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=steps == 2)
        assert penalty.active


def test_an_evaluation_leaves_no_trace_in_the_rewards(tmp_path: Path) -> None:
    penalty = LengthPenalty(weight=0.1, max_tokens=10)
    trainer = make_trainer(tmp_path, shape_rewards=penalty, per_device_eval_batch_size=4)
    metrics = trainer.evaluate(trainer.train_dataset.select(range(2)))
    assert metrics["eval_rewards/unshaped/mean"] >= metrics["eval_reward"]
    assert not penalty.active
