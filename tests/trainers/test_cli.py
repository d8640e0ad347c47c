"""The command line as a user meets it: results, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forethought.agents import EpisodeStore
from forethought.trainers.cli import main

POINTER = "forethought/Pointer-v0"
ORACLE = "script:forethought.envs.pointer.scripts:oracle"

SLOW_SCRIPT = """
import time

from forethought.envs.pointer.scripts import oracle


def slow(env):
    time.sleep(0.02)
    yield from oracle(env)
"""


def _failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it fails: one line, and exit status 1."""
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1:]
    assert len(error) == 1 and error[0].startswith("forethought: ")
    return error[0].removeprefix("forethought: ")


def test_the_environments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    assert {POINTER, "forethought/Search-v0"} <= set(capsys.readouterr().out.split())


def test_an_evaluation_is_shown_kept_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "eval")
    command = ["eval", POINTER, ORACLE, "--tasks", "9", "--attempts", "2", "--out", out, "--set", "hops=[3, 3]"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "18 (9 tasks)" in shown and "100.0 %" in shown
    card = json.loads((tmp_path / "eval" / "report_card.json").read_text())
    # <plan> 1. follow 3 </plan> <think> A B C </think> <answer> C </answer> and the end of the turn: words, not bytes.
    assert card["tokens"]["sampled"]["value"] == 5 + 5 + 3 + 1
    assert main(["replay", out]) == 0
    assert capsys.readouterr().out == "18 episodes replayed, 0 differ\n"


def test_a_replay_that_differs_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", POINTER, ORACLE, "--tasks", "2", "--out", str(tmp_path)]) == 0
    rows = tmp_path / "episodes.jsonl"
    rows.write_text(rows.read_text().replace('"reward":1.0', '"reward":0.5', 1))
    capsys.readouterr()
    assert main(["replay", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "reward: recorded 0.5, replayed 1.0" in output and "2 episodes replayed, 1 differ" in output


@pytest.mark.parametrize(
    ("env", "agent", "kwargs", "message"),
    [
        ("forethought/Ponter-v0", ORACLE, [], "Did you mean: `Pointer`?"),
        ("nowhere:My-v0", ORACLE, [], "cannot make nowhere:My-v0"),
        ("CartPole-v1", ORACLE, [], "rollouts need a forethought.envs.ToolEnv"),
        (POINTER, ORACLE, ["hop=[0, 1]"], "unexpected keyword argument 'hop'"),
        (POINTER, ORACLE, ["hops=[3, 1]"], "smallest <= largest"),
        (POINTER, ORACLE, ["hops"], "expected name=value"),
        (POINTER, ORACLE, ["tasks=nowhere.jsonl"], "No such file or directory: 'nowhere.jsonl'"),
        (POINTER, "script:forethought.envs.pointer.scripts:oracel", [], "did you mean 'oracle'?"),
        (POINTER, "script:nowhere:oracle", [], "No module named 'nowhere'"),
        (POINTER, "/no/such/model", [], "no model at /no/such/model: there is no such folder"),
        ("forethought/Search-v0", ORACLE, [], "either corpus=<file or index folder> or retriever_url="),
        (
            "forethought/Search-v0", ORACLE, ["corpus=nowhere.jsonl", "questions=nowhere.jsonl"],
            "corpus 'nowhere.jsonl' cannot be read: No such file or directory",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated(
    env: str, agent: str, kwargs: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if agent.startswith("/"):
        pytest.importorskip("transformers", reason="needs transformers: pip install forethought[train]")
    assert message in _failure(capsys, "eval", env, agent, "--out", str(tmp_path / "x"), "--set", *kwargs)
    assert not (tmp_path / "x").exists()


def test_a_broken_task_row_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = tmp_path / "tasks.jsonl"
    out = ["--out", str(tmp_path / "x"), "--set", f"tasks={tasks}"]
    for row, message in (
        ('{"id": 3, "prompt": "p"}', "line 2: not a task row"),
        ("{", "line 2: not JSON"),
        ('{"id": "a", "prompt": "p"}', "line 2: the id 'a' is taken by line 1"),
    ):
        tasks.write_text(f'{{"id": "a", "prompt": "p"}}\n{row}\n')
        assert f"{tasks}, {message}" in _failure(capsys, "eval", POINTER, ORACLE, *out)


def test_questions_that_the_script_cannot_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tantivy", reason="needs tantivy: pip install forethought[search]")
    (tmp_path / "corpus.jsonl").write_text('{"title": "t", "text": "some text"}\n')
    (tmp_path / "questions.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    data = [f"{name}={tmp_path / name}.jsonl" for name in ("corpus", "questions")]
    script = "script:forethought.envs.search.scripts:gold_decomposition"
    command = ["eval", "forethought/Search-v0", script, "--out", str(tmp_path / "x"), "--set", *data]
    assert "needs MuSiQue questions" in _failure(capsys, *command)


def test_another_evaluation_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", POINTER, ORACLE, "--tasks", "2", "--out", str(tmp_path)]) == 0
    error = _failure(capsys, "eval", POINTER, ORACLE, "--tasks", "3", "--out", str(tmp_path))
    assert "holds another evaluation" in error


def test_nothing_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no episodes in" in _failure(capsys, "replay", str(tmp_path))


@pytest.mark.parametrize("name", ["--tasks", "--attempts", "--concurrency", "--max-turn-tokens"])
def test_numbers_that_make_no_sense(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["eval", POINTER, ORACLE, "--out", str(tmp_path / "x"), name, "0"])
    assert "must be 1 or more, found 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("slots = 32", "slot = 32"), "line 27: unknown key 'slot' in [sampling]; did you mean 'slots'?"),
        (("slots = 32", 'slots = "a"'), "line 27: sampling.slots must be an integer, found 'a'"),
        (('name = "tiny"', "name = tiny"), "not TOML: Invalid value (at line 2, column 8)"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_line(
    edit: tuple[str, str], message: str, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_recipe.write_text(tiny_recipe.read_text("utf-8").replace(*edit), "utf-8")
    error = _failure(capsys, "run", str(tiny_recipe), "--dry-run")
    assert str(tiny_recipe) in error and message in error


def test_mistakes_in_overrides(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "override 'sed=1': unknown key 'sed'" in _failure(capsys, "run", str(tiny_recipe), "sed=1", "--dry-run")
    assert "there is no such file" in _failure(capsys, "run", str(tiny_recipe.parent / "missing.toml"))
    # Behind an option too.
    assert "override 'seed=x'" in _failure(capsys, "run", str(tiny_recipe), "--dry-run", "seed=x")
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(tiny_recipe), "--dry-runs", "seed=1"])


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    error = _failure(capsys, "eval", POINTER, ORACLE, "--tasks", "2", "--out", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in error and "Not a directory" in error


def _python(program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=cwd)


LIMITED = """
import resource, sys
from forethought.trainers.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    command = ["eval", POINTER, ORACLE, "--tasks", "60", "--out", str(tmp_path / "run")]
    result = _python(LIMITED, *command)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Free some space and run the same command again" in result.stderr.splitlines()[-1]
    kept = [episode.id for episode in EpisodeStore(tmp_path / "run")]
    assert 0 < len(kept) < 60
    assert main(command) == 0
    assert [episode.id for episode in EpisodeStore(tmp_path / "run")][: len(kept)] == kept


@pytest.mark.parametrize(
    ("error", "explained"),
    [
        (OSError(28, "No space left on device", "run/done.json"), "the disk takes no more (run/done.json); what is"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk takes no more; what is finished"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 8"), "the disk takes no more;"),
        (PermissionError(13, "Permission denied", "run"), "run: Permission denied"),
        (RuntimeError("a fault of the program"), None),
    ],
)
def test_what_libraries_raise_over_a_disk(
    error: Exception,
    explained: str | None,
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("trl", reason="needs TRL: pip install forethought[train]")

    def fail(self: object, only: str | None = None) -> None:
        raise error

    monkeypatch.setattr("forethought.trainers.pipeline.Pipeline.run", fail)
    if explained is None:
        with pytest.raises(RuntimeError, match="a fault of the program"):
            main(["run", str(tiny_recipe)])
    else:
        assert _failure(capsys, "run", str(tiny_recipe)).startswith(explained)


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocked())
from forethought.trainers.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("blocked", "command", "extra"),
    [
        ("torch,transformers,trl", ["run", "RECIPE", "output=x"], "train"),
        ("torch", ["eval", POINTER, "gpt2", "--out", "x"], "train"),
        (
            "tantivy",
            ["eval", "forethought/Search-v0", ORACLE, "--out", "x", "--set", "corpus=RECIPE", "questions=RECIPE"],
            "search",
        ),
    ],
)  # fmt: skip
def test_a_missing_extra_says_how_to_install_it(
    blocked: str, command: list[str], extra: str, tiny_recipe: Path
) -> None:
    command = [part.replace("RECIPE", str(tiny_recipe)) for part in command]
    result = _python(BLOCKED, blocked, *command, cwd=tiny_recipe.parent)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"forethought[{extra}]" in result.stderr and "pip install" in result.stderr
    assert not (tiny_recipe.parent / "x").exists()


def test_a_dry_run_works_without_the_extra(tiny_recipe: Path) -> None:
    result = _python(BLOCKED, "torch,transformers,trl,tomli_w", "run", str(tiny_recipe), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "12 steps: RL, no penalty" in result.stdout
    assert "the options of the trainers were not checked" in result.stdout


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "slow_script.py").write_text(SLOW_SCRIPT)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "forethought.trainers.cli", "eval", POINTER, "script:slow_script:slow"]
    command += ["--tasks", "100", "--concurrency", "2", "--out", str(out)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    rows = out / "episodes.jsonl"
    deadline = time.monotonic() + 60
    while not rows.exists() or rows.read_bytes().count(b"\n") < 5:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.endswith("interrupted: what is finished is kept; the same command goes on from there\n")
    kept = [episode.id for episode in EpisodeStore(out)]
    assert 5 <= len(kept) < 100

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert again.returncode == 0, again.stderr
    assert again.stderr.startswith(f"eval  {len(kept) + 1}/100")
    ids = [episode.id for episode in EpisodeStore(out)]
    assert ids[: len(kept)] == kept and len(set(ids)) == len(ids) == 100
