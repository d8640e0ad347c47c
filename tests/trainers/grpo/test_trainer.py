"""What reaches the rollout, what is logged, and that runs resume."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset

from forethought.agents.episode import Episode, SectionSpan, Segment, SegmentKind, Status, Turn
from forethought.envs.tools import CallResult

from .tiny_grpo import FakeRollout, distance, make_episode, make_trainer, one_gradient, reference_gradient


def test_the_whole_dataset_row_reaches_the_rollout(tmp_path: Path) -> None:
    rollout = FakeRollout()
    make_trainer(tmp_path, rollout).train()
    prompts = [row["prompt"] for row in rollout.rows]
    assert prompts == [prompts[0]] * 4 + [prompts[4]] * 4
    assert prompts[0] != prompts[4]
    assert all(row["level"] == int(row["prompt"].removeprefix("task-")) % 5 for row in rollout.rows)


def test_the_rollout_must_return_one_episode_per_row(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.rollout = lambda rows, trainer: [make_episode(0)]
    with pytest.raises(ValueError, match="1 episodes for 8 rows"):
        trainer.train()


def test_shaped_rewards_see_whole_groups_and_are_trained_on(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def shape(episodes: list[Episode], group: int, step: int) -> list[float]:
        seen.append([episode.id for episode in episodes])
        assert group == 4
        return [e.reward - 0.01 * e.sampled_tokens() for e in episodes]

    gradient = one_gradient(tmp_path, shape_rewards=shape)
    episodes = [make_episode(i) for i in range(8)]
    assert seen == [[episode.id for episode in episodes]]
    for episode in episodes:
        episode.reward -= 0.01 * episode.sampled_tokens()
    assert distance(gradient, reference_gradient(episodes, 4, "prompt")) < 1e-5


def test_rewards_are_shaped_one_upon_the_other(tmp_path: Path) -> None:
    steps: list[int] = []

    def double(episodes: list[Episode], group: int, step: int) -> list[float]:
        steps.append(step)
        return [2 * e.reward for e in episodes]

    def add(episodes: list[Episode], group: int, step: int) -> list[float]:
        return [e.reward + 1 - e.sampled_tokens() / 10 for e in episodes]

    rollout = FakeRollout()
    trainer = make_trainer(tmp_path, rollout, shape_rewards=[double, add], max_steps=2)
    trainer.train()
    assert steps == [0, 1]
    expected = sum(2 * e.reward + 1 - e.sampled_tokens() / 10 for e in rollout.episodes) / 8
    assert trainer.state.log_history[1]["reward"] == pytest.approx(expected, abs=1e-6)
    assert trainer.state.log_history[1]["rewards/unshaped/mean"] == sum(e.reward for e in rollout.episodes) / 8


@pytest.mark.parametrize(("shaped", "message"), [([1.0], "1 rewards for 8"), ([float("nan")] * 8, "finite")])
def test_bad_shaped_rewards_are_rejected(tmp_path: Path, shaped: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, shape_rewards=lambda episodes, group, step: shaped).train()


def test_metrics_describe_episodes(tmp_path: Path) -> None:
    def make(row: Any, place: int, step: int) -> Episode:
        episode = make_episode(place, reward=[1.0, 0.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0][place], segments=1 + place % 2)
        episode.turns = [Turn(text="", observation="", segment=0, start=1, end=2) for _ in range(1 + place)]
        episode.turns[0].calls = [CallResult(name="t", arguments={}, error="timeout" if place == 0 else None)]
        episode.status = {3: Status.FAULT, 4: Status.TRUNCATED}.get(place, Status.COMPLETED)
        episode.scores = {"correct": episode.reward, "short": 0.5}
        return episode

    rollout = FakeRollout(make)
    trainer = make_trainer(tmp_path, rollout)
    trainer.train()
    log = trainer.state.log_history[0]
    counted = [e for e in rollout.episodes if e.status is not Status.FAULT]
    lengths = [e.sampled_tokens() for e in counted]
    expected = {
        "rollout/faults": 1,
        "rollout/finish_rate": 6 / 7,
        "rollout/turns_mean": (1 + 2 + 3 + 5 + 6 + 7 + 8) / 7,
        "rollout/segments_mean": (1 + 2 + 1 + 1 + 2 + 1 + 2) / 7,
        "completions/mean_length": sum(lengths) / 7,
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 / 7,
        "tools/call_frequency": 1,
        "tools/failure_frequency": 1 / 7,
        "rewards/correct/mean": 6 / 7,
        "rewards/short/mean": 0.5,
        "rewards/short/std": 0,
        "rewards/episode_reward/mean": 6 / 7,
        "reward": 6 / 7,
        "frac_reward_zero_std": 0.5,
        "num_tokens": sum(len(s.token_ids) for e in rollout.episodes for s in e.segments),
    }
    assert {name: log.get(name) for name in expected} == pytest.approx(expected)
    assert {"loss", "grad_norm", "entropy", "step_time", "clip_ratio/region_mean", "rollout/duration_s"} <= log.keys()


def test_metrics_say_where_the_gradient_goes(tmp_path: Path) -> None:
    """Group 0: two episodes with a summary, one right; group 1: nothing to learn from; a fault is in none of it."""

    def make(row: Any, place: int, step: int) -> Episode:
        episode = make_episode(place, reward=[1.0, 0.0, 0.5, 0.0][place] if place < 4 else 0.5, segments=1)
        root = episode.segments[0] = Segment()
        root.give([3, 4])
        root.append_sampled([5] * 10, [-1.0] * 10)  # a plan of 2, a think section of 5, 3 besides
        root.sections = [SectionSpan("plan", 2, 4), SectionSpan("think", 4, 9)]
        if place < 2:
            root.append_sampled([6] * 4, [-1.0] * 4)
            root.sections.append(SectionSpan("summary", 12, 16))
            after = Segment(kind=SegmentKind.AFTER_SUMMARY, parent=(0, 16))
            after.give([3, 4])
            after.append_sampled([7] * 2, [-1.0] * 2)
            after.sections = [SectionSpan("answer", 2, 4)]
            episode.segments.append(after)
        call = CallResult(name="ask", arguments={}, model="big")
        episode.turns = [Turn(text="", observation="", segment=0, start=2, end=12, calls=[call] * (place % 2))]
        episode.scores = {"correct": float(episode.reward == 1.0)}
        episode.status = Status.FAULT if place == 3 else Status.COMPLETED
        return episode

    def log(**options: Any) -> dict[str, float]:
        trainer = make_trainer(tmp_path, FakeRollout(make), **options)
        trainer.train()
        logged: dict[str, float] = trainer.state.log_history[0]
        return logged

    # Trained tokens: 16, 16, 10 in group 0, 10 each in group 1. Advantages in group 0: .5, -.5, 0.
    expected = {
        "section_tokens/plan": 14 / 82,
        "section_tokens/think": 35 / 82,
        "section_tokens/summary": 8 / 82,
        "section_tokens/answer": 4 / 82,
        "section_tokens/call": 0,
        "section_tokens/other": 21 / 82,
        "section_weight/plan": 2 / 16,
        "section_weight/think": 5 / 16,
        "section_weight/summary": 4 / 16,
        "section_weight/answer": 2 / 16,
        "section_weight/call": 0,
        "section_weight/other": 3 / 16,
        "rollout/groups_without_signal": 0.5,
        "rollout/p_summary": 2 / 7,
        "rollout/p_success_given_summary": 1 / 2,
        "rollout/segments_mean": 9 / 7,
        "rollout/segments_max": 2,
        "rollout/sub_calls_mean": 3 / 7,
        "rollout/finish_rate": 1,
    }
    logged = log()
    assert {name: logged.get(name) for name in expected} == pytest.approx(expected)
    # A penalty of .5 on the think tokens of the one success makes .5 - .5 of their advantage.
    credited = log(section_credit={"long_section": 0.5}, section_limits={"think": 0}, section_credit_range=(0.5, 1.0))
    assert credited["section_weight/think"] == pytest.approx(2.5 / (16 - 2.5))
    assert credited["section_weight/summary"] == pytest.approx(4 / (16 - 2.5))
    last = log(credit="last_segment")
    assert last["section_tokens/summary"] == last["section_weight/summary"] == 0


def test_the_table_of_completions_has_one_row_per_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = FakeRollout()
    make_trainer(tmp_path, rollout, log_completions=True, num_completions_to_print=1).train()
    table = pd.read_parquet(next((tmp_path / "completions").glob("*.parquet")))
    assert len(table) == 8
    assert table["episode_reward"].tolist() == [e.reward for e in rollout.episodes]
    assert table["status"].tolist() == ["completed"] * 8
    assert [text.count("[") for text in table["completion"]] == [len(e.segments) for e in rollout.episodes]


def _final_weights(trainer: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize(
    "options", [{}, {"per_device_train_batch_size": 4, "steps_per_generation": 2}], ids=["one", "two_updates"]
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, options: dict[str, Any]) -> None:
    options = {"optim": "adamw_torch", "save_strategy": "steps", "save_steps": 2, "seed": 3, **options}
    unbroken = make_trainer(tmp_path / "unbroken", max_steps=4, **options)
    unbroken.train()
    make_trainer(tmp_path / "broken", max_steps=2, **options).train()
    rollout = FakeRollout()
    resumed = make_trainer(tmp_path / "broken", rollout, max_steps=4, **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    assert rollout.steps == ([2, 3] if len(options) == 4 else [2])
    assert torch.equal(_final_weights(resumed), _final_weights(unbroken))


def test_a_run_resumed_inside_a_generation_batch_ends_it_first(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 1,
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
    }
    make_trainer(tmp_path, max_steps=3, **options).train()
    rollout = FakeRollout()
    make_trainer(tmp_path, rollout, max_steps=5, **options).train(resume_from_checkpoint=True)
    assert rollout.steps == [3, 4]  # the rest of the batch begun at step 2, then a new one


def test_several_updates_per_generation_use_old_logprobs(tmp_path: Path) -> None:
    rollout = FakeRollout()
    trainer = make_trainer(tmp_path, rollout, num_iterations=2, max_steps=4, token_budget=60, learning_rate=0.5)
    trainer.train()
    assert rollout.steps == [0, 2]
    clipped = [entry.get("clip_ratio/region_mean") for entry in trainer.state.log_history[:4]]
    assert clipped[0] == 0.0
    assert clipped[1] > 0.0


def test_evaluation_runs_the_rollout_and_does_not_train(tmp_path: Path) -> None:
    rollout = FakeRollout()
    trainer = make_trainer(tmp_path, rollout, per_device_eval_batch_size=4, token_budget=60)
    before = _final_weights(trainer)
    metrics = trainer.evaluate(Dataset.from_list([{"prompt": "a", "level": 1}, {"prompt": "b", "level": 2}]))
    assert len(rollout.steps) == 2
    assert metrics["eval_rollout/finish_rate"] == 1.0
    assert torch.equal(before, _final_weights(trainer))


def test_a_batch_of_faults_logs_no_nonsense(tmp_path: Path) -> None:
    def make(row: Any, place: int, step: int) -> Episode:
        episode = make_episode(place)
        episode.status = Status.FAULT
        return episode

    trainer = make_trainer(tmp_path, FakeRollout(make), steps_per_generation=2, per_device_train_batch_size=4)
    before = _final_weights(trainer)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["rollout/faults"] == 8
    assert log["loss"] == 0.0
    assert log["entropy"] is None
    assert "completions/mean_length" not in log
    assert torch.equal(before, _final_weights(trainer))
