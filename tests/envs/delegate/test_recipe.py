"""The recipe for a pretrained chat model, with a tiny one in its place: documents longer than its window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forethought.agents import EpisodeStore, SegmentKind
from forethought.trainers.cli import main
from forethought.trainers.training_log import read_log
from tests.trainers import test_chat_recipe
from tests.trainers.conftest import TRL_READS_OLD_NAME

RECIPE = Path(__file__).parents[3] / "examples" / "recipes" / "delegate.toml"
pytestmark = pytest.mark.filterwarnings(TRL_READS_OLD_NAME)
chat_model = test_chat_recipe.chat_model


def _overrides(model: Path, data: dict[str, Any], folder: Path) -> list[str]:
    return [
        f"output={folder}", "device=cpu", f"model.path={model}", f"env.kwargs.corpus={data['corpus']}",
        f"env.kwargs.questions={data['questions']}", "env.kwargs.words=[600, 1800]",
        "env.kwargs.budget={turns = 8, sub_calls = 4, depth = 2}",
        *(f"eval.{i}.kwargs.questions={data['questions']}" for i in range(3)), "eval.1.kwargs.words=1800",
        "eval.2.kwargs.words=2400", *(f"eval.{i}.attempts=1" for i in range(3)),
        *(f"eval.{i}.tasks=2" for i in range(3)),
        "sampling.max_turn_tokens=24", "sampling.slots=8", "traces.episodes=4", "window.limit=16000",
        "sft.trainer.max_steps=2", "sft.trainer.bf16=false", "sft.trainer.gradient_accumulation_steps=1",
        "sft.trainer.warmup_steps=0", "filter.tasks=4", "filter.attempts=2", "filter.keep=[0, 1]",
        "grpo.trainer.max_steps=2", "grpo.trainer.num_generations=2", "grpo.trainer.per_device_train_batch_size=4",
        "grpo.trainer.bf16=false", "grpo.save_episodes_every=1",
        "sft.trainer.logging_steps=1", "ablations=[]",
    ]  # fmt: skip


def test_from_traces_to_replay(
    chat_model: Path, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["run", str(RECIPE), *_overrides(chat_model, data, folder)]) == 0, capsys.readouterr().err

    traces = sorted(EpisodeStore(folder / "traces"), key=lambda e: e.task["difficulty"])
    assert [e.reward for e in traces] == [1.0] * 4
    assert [[s.kind for s in e.segments[1:]] for e in traces] == [[]] * 2 + [[SegmentKind.SUB_CALL] * 2] * 2
    assert len(read_log(folder / "sft" / "log.jsonl")) >= 1
    assert [entry["step"] for entry in read_log(folder / "grpo" / "rl" / "log.jsonl")] == [1, 2]
    assert (folder / "report.html").exists()

    capsys.readouterr()
    for stage, count in (("traces", 4), ("eval/held-out/rl", 2), ("grpo/rl/episodes/step-000001", 4)):
        assert main(["replay", str(folder / stage)]) == 0
        assert f"{count} episodes replayed, 0 differ" in capsys.readouterr().out
