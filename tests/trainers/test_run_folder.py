from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forethought.trainers.recipe import Recipe, load_recipe
from forethought.trainers.run_folder import ChildFailed, RunFolder, finished_episodes
from forethought.trainers.toml_tables import ConfigError


@pytest.fixture
def recipe(tiny_recipe: Path, tmp_path: Path) -> Recipe:
    return load_recipe(tiny_recipe, [f"output={tmp_path / 'run'}"])


class Stage:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0
        self.notes: list[str] = []

    def work(self, folder: Path) -> None:
        self.times += 1
        (folder / "result").write_text(str(self.times))

    def run(self, recipe: Recipe, name: str = "a/b", inputs: Any = (1, "x")) -> str:
        return RunFolder(recipe).run_stage(name, inputs, self.work, self.notes.append)


def test_a_stage_is_done_once(recipe: Recipe) -> None:
    stage = Stage()
    key = stage.run(recipe)
    assert stage.run(recipe) == key and stage.times == 1
    assert stage.notes[0].startswith("a/b  done in ") and stage.notes[1] == "a/b  done before"
    record = json.loads((recipe.folder / "a" / "b" / "done.json").read_text())
    assert record["inputs"] == key and record["seconds"] >= 0 and record["forethought"]


def test_the_hash_is_that_of_name_and_inputs(recipe: Recipe) -> None:
    folder = RunFolder(recipe)
    keys = {folder.check_stage(name, inputs) for name in "ab" for inputs in ({"x": 1}, {"x": 2}, {"x": [1]})}
    assert len(keys) == 6
    assert folder.check_stage("a", {"x": 1, "y": 2}) == folder.check_stage("a", {"y": 2, "x": 1})
    assert not recipe.folder.exists()


def test_results_of_other_inputs_are_refused(recipe: Recipe) -> None:
    stage = Stage()
    stage.run(recipe)
    with pytest.raises(ConfigError, match=r"a/b was made from another recipe: choose another output=\.\.\., or delete"):
        stage.run(recipe, inputs=(2, "x"))
    assert stage.times == 1


def test_a_stage_that_was_killed_is_done_again_from_the_same_inputs_only(recipe: Recipe) -> None:
    def die(folder: Path) -> None:
        (folder / "partial").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunFolder(recipe).run_stage("a/b", (1, "x"), die, print)
    assert not (recipe.folder / "a" / "b" / "done.json").exists()
    stage = Stage()
    with pytest.raises(ConfigError, match="another recipe"):
        stage.run(recipe, inputs=(2, "x"))
    stage.run(recipe)
    assert stage.times == 1 and (recipe.folder / "a" / "b" / "partial").read_text() == "kept"


def test_two_processes_do_not_work_on_one_stage(recipe: Recipe) -> None:
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    folder = recipe.folder / "a" / "b"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", program, str(folder / ".working")]
    stage = Stage()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="another process is working in"):
            stage.run(recipe)
        other.kill()
        other.communicate()
    stage.run(recipe)
    assert stage.times == 1


def test_the_resolved_recipe_can_be_loaded(recipe: Recipe) -> None:
    pytest.importorskip("tomli_w")
    folder = RunFolder(recipe)
    folder.save_recipe()
    assert load_recipe(folder.resolved_recipe) == recipe


def test_a_folder_without_episodes_has_none_finished(tmp_path: Path) -> None:
    assert finished_episodes(tmp_path / "missing") == 0


@pytest.mark.parametrize(("code", "how"), [(1, "ended with exit code 1"), (-9, "was killed by SIGKILL")])
def test_a_failed_child_is_told_of_in_one_sentence(code: int, how: str) -> None:
    assert str(ChildFailed("RL", code)).startswith(f"run 'RL' {how}; ")
