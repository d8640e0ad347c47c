"""A tiny recipe end to end: what every stage leaves, and runs that are killed, interrupted and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs TRL: pip install forethought[train]")

from forethought.agents import EpisodeStore
from forethought.trainers.cli import main
from forethought.trainers.recipe import load_recipe
from forethought.trainers.training_log import read_log

RUNS = ("rl", "no-penalty")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    from .conftest import TINY

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.toml").write_text(TINY, "utf-8")
    assert main(["run", str(folder / "tiny.toml"), f"output={folder / 'run'}"]) == 0
    return folder / "run"


def test_every_stage_leaves_its_result(undisturbed: Path) -> None:
    done = {str(path.parent.relative_to(undisturbed)) for path in undisturbed.glob("**/done.json")}
    evaluations = {f"eval/held-out/{run}" for run in ("oracle", "sft", *RUNS)}
    assert done == {"start", "traces", "sft", "filter", "grpo/rl", "grpo/no-penalty"} | evaluations
    assert len(list(EpisodeStore(undisturbed / "traces"))) == 256
    assert [entry["step"] for entry in read_log(undisturbed / "sft" / "log.jsonl")] == list(range(1, 61))
    kept = [json.loads(line) for line in (undisturbed / "filter" / "tasks.jsonl").read_text().splitlines()]
    assert len(kept) == 16 and all(0 <= task["metadata"]["pass_rate"] <= 1 for task in kept)
    for run in RUNS:
        log = read_log(undisturbed / "grpo" / run / "log.jsonl")
        assert [entry["step"] for entry in log] == list(range(1, 13))
        assert any(entry["grad_norm"] > 0 for entry in log), "nothing was learned from"
        assert (undisturbed / "grpo" / run / "model" / "model.safetensors").exists()
        steps = sorted(path.name for path in (undisturbed / "grpo" / run / "episodes").iterdir())
        assert steps == [f"step-{step:06}" for step in range(0, 12, 2)]


def test_the_ablation_differs_in_what_it_says(undisturbed: Path) -> None:
    with_penalty, without = (read_log(undisturbed / "grpo" / run / "log.jsonl") for run in RUNS)
    assert with_penalty[0]["rewards/correct/mean"] == without[0]["rewards/correct/mean"] > 0
    assert with_penalty[0]["reward"] < without[0]["reward"] == without[0]["rewards/correct/mean"]


def test_the_report_shows_runs_targets_and_notes(undisturbed: Path) -> None:
    page = (undisturbed / "report.html").read_text("utf-8")
    for text in ("no penalty", "it is right", "&lt;a few&gt; steps", "forethought run", "Seconds by stage"):
        assert text in page


def test_episodes_of_training_and_evaluation_replay(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(undisturbed / "eval" / "held-out" / "rl")]) == 0
    assert main(["replay", str(undisturbed / "grpo" / "rl" / "episodes" / "step-000002")]) == 0
    assert "20 episodes replayed, 0 differ" in capsys.readouterr().out


def test_the_resolved_recipe_is_the_same_run(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolved = undisturbed / "recipe.resolved.toml"
    assert load_recipe(resolved).to_tables() == load_recipe(resolved, [f"output={undisturbed}"]).to_tables()
    assert main(["run", str(resolved)]) == 0
    assert capsys.readouterr().out.count("done before") == 10


def test_a_changed_recipe_is_refused_before_anything_is_done(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = undisturbed / "recipe.resolved.toml"
    before = resolved.read_text("utf-8")
    assert main(["run", str(resolved), "grpo.trainer.learning_rate=1"]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "grpo/rl was made from another recipe" in output.err
    assert output.out == "" and resolved.read_text("utf-8") == before


def test_a_dry_run_makes_nothing(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_recipe.parent / "run"
    assert main(["run", str(tiny_recipe), "--dry-run", f"output={folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "traces", "sft", "filter", "grpo", "eval", "report"]
    assert "12 steps: RL, no penalty" in lines[4]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("traces.script=forethought.envs.pointer.scripts:oracel", "did you mean 'oracle'?"),
        ("oracle=forethought.envs.ponter:oracle", "No module named"),
        ("env.id=forethought/Ponter-v0", "Did you mean: `Pointer`?"),
        ("env.kwargs.hop=[0,2]", "unexpected keyword argument 'hop'"),
        ("eval.0.kwargs.split=tests", "'tests' is not a valid Split"),
        ("sft.trainer.lr_scheduler_type=linaer", "[sft.trainer]:"),
        ("grpo.trainer.num_generations=5", "[grpo.trainer]:"),
        ("grpo.trainer.loss_type=grpo", "[grpo.trainer]: loss_type='grpo'"),
        ("ablations.0.set=['grpo.trainer.loss_denominator=tokens']", "[grpo.trainer]: loss_denominator='tokens'"),
        ("sft.trainer.report_to=no-such-tracker", "no-such-tracker"),
        ("device=cuda", "torch sees no GPU"),
    ],
)
def test_a_dry_run_finds_what_a_run_would_stumble_over(
    tiny_recipe: Path, override: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if override == "device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    folder = tiny_recipe.parent / "run"
    assert main(["run", str(tiny_recipe), f"output={folder}", override, "--dry-run"]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("forethought: ") and output.err.count("\n") == 1
    assert found in output.err and output.out == ""
    assert not folder.exists()


def test_a_run_that_is_not_there(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tiny_recipe.parent / 'run'}"
    assert main(["run", str(tiny_recipe), output, "--only", "no penalt"]) == 1
    assert "the runs of this recipe are RL, no penalty" in capsys.readouterr().err


def test_no_task_within_the_range(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tiny_recipe.parent / 'run'}"
    changes = ["sft.trainer.max_steps=1", "traces.episodes=16", "filter.keep=[0.9, 1.0]", "filter.tasks=4"]
    assert main(["run", str(tiny_recipe), output, *changes]) == 1
    assert "no task has a pass rate within [0.9, 1.0]" in capsys.readouterr().err


def test_no_task_is_left_to_filter(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tiny_recipe.parent / 'run'}"
    changes = ["sft.trainer.max_steps=1", "traces.episodes=16", "env.kwargs.size=100"]
    assert main(["run", str(tiny_recipe), output, *changes]) == 1
    assert "256 tasks are left out, and the environment has 100 in all" in capsys.readouterr().err


def test_a_child_that_fails_is_told_of_in_one_sentence(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["run", str(undisturbed / "recipe.resolved.toml"), "processes=2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("forethought: run 'RL' ended with exit code 1;") and error.count("\n") == 1


def test_a_child_ends_with_its_parent(tiny_recipe: Path) -> None:
    child_end, parent_end = os.pipe()
    command = [sys.executable, "-m", "forethought.trainers.cli", "run", str(tiny_recipe), "--only", "RL"]
    command += ["--parent", str(child_end), f"output={tiny_recipe.parent / 'run'}"]
    process = subprocess.Popen(command, pass_fds=[child_end])
    os.close(child_end)
    os.close(parent_end)
    assert process.wait(timeout=60) == 130


def _start(recipe: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "forethought.trainers.cli", "run", str(recipe), f"output={folder}", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_until(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.003)
    return found


def _processes_of(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command and b"--only" in command:
            found.append(int(place.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_killed_and_interrupted_it_goes_on_to_the_same_result(
    undisturbed: Path, tiny_recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_recipe.parent / "run"

    # Killed in the middle of fine-tuning.
    process = _start(tiny_recipe, folder)
    checkpoints = folder / "sft" / "checkpoints"
    _wait_until(lambda: list(checkpoints.glob("checkpoint-*/trainer_state.json")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "sft" / "done.json").exists()
    steps = max(int(path.name.rpartition("-")[2]) for path in checkpoints.glob("checkpoint-*"))
    assert 5 <= steps < 60

    # Ctrl-C while the reinforcement learning runs go on in processes of their own.
    process = _start(tiny_recipe, folder, "processes=2")
    _wait_until(lambda: len(_processes_of(folder)) == 2, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "interrupted: what is finished is kept; the same command goes on from there"
    _wait_until(lambda: not _processes_of(folder))

    # One of them killed in the middle of reinforcement learning.
    process = _start(tiny_recipe, folder, "--only", "RL")
    checkpoints = folder / "grpo" / "rl" / "checkpoints"
    _wait_until(lambda: list(checkpoints.glob("checkpoint-*/trainer_state.json")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "grpo" / "rl" / "done.json").exists()

    # To the end, and nothing is lost or repeated.
    assert main(["run", str(tiny_recipe), f"output={folder}", "processes=2"]) == 0
    assert "report.html" in capfd.readouterr().out
    assert (folder / "report.html").exists()
    for stage in ("sft", *(f"grpo/{run}" for run in RUNS)):
        assert _numbers(folder / stage / "log.jsonl") == _numbers(undisturbed / stage / "log.jsonl")
        weights = Path(stage) / "model" / "model.safetensors"
        assert (folder / weights).read_bytes() == (undisturbed / weights).read_bytes()
    for stage in ("traces", "filter", *(f"eval/held-out/{run}" for run in ("oracle", "sft", *RUNS))):
        found, expected = (_episodes(run / stage) for run in (folder, undisturbed))
        assert found == expected
    assert (folder / "filter" / "tasks.jsonl").read_bytes() == (undisturbed / "filter" / "tasks.jsonl").read_bytes()


def _numbers(log: Path) -> list[dict[str, Any]]:
    """The log without what depends on the machine, every line of it."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    others = {"seconds", "step_time", "rollout/duration_s"}
    if log.parent.name == "sft":
        others.add("num_tokens")  # TRL's SFTTrainer counts from zero again after an interruption
    return [{k: v for k, v in entry.items() if k not in others} for entry in entries]


def _episodes(folder: Path) -> dict[str, Any]:
    episodes = list(EpisodeStore(folder))
    found = {e.id: ([s.token_ids for s in e.segments], e.scores, e.reward) for e in episodes}
    assert len(found) == len(episodes)
    return found


def test_a_checkpoint_that_was_being_written_is_taken_away(tmp_path: Path) -> None:
    from forethought.trainers.stages.supervised import last_checkpoint

    assert last_checkpoint(tmp_path) is None
    for step, state in ((8, "{}"), (9, '{"epoch"'), (10, None)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoints" / "README.md").touch()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoints" / "checkpoint-8")
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")] == ["checkpoint-8"]
