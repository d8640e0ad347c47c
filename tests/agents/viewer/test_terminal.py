"""The viewer in a terminal or a pipe, through the command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forethought.trainers.commands import view

from .conftest import HOSTILE, append_line, plain_episode, rich_episode


def run_view(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    view.add(parser.add_subparsers())
    options = parser.parse_args(["view", *map(str, arguments)])
    status: int = options.run(options)
    return status


def test_the_list(mixed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_line(mixed_run, b'{"half"')
    assert run_view(mixed_run, "--terminal") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "run: 9 of 10 episodes" and out[1].startswith("the last line is not finished")
    assert "right" in out[2] and "task-0/0" in out[2] and "[replanned looped format_error]" in out[2]
    assert run_view(mixed_run, "--terminal", "--only", "failed") == 0
    assert "task-3/0" in capsys.readouterr().out
    assert run_view(mixed_run, "--terminal", "--search", "question 7") == 0
    assert "task-7/0" in capsys.readouterr().out


def test_one_episode(mixed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_view(mixed_run, "--terminal", "--episode", "task-0/0") == 0
    out = capsys.readouterr().out
    for said in (
        "task-0/0  (run, line 1)", "critical path: ", "plan, version 2 of 2", "1. search the archive  <- turn 1, 2",
        "-> search for step 1 [repeated]", "malformed: unclosed_section", "begins again after a summary",
        "carried: The archive has nothing.", "a sub-task, 16 tokens read, on the critical path", "answer: Ada",
    ):  # fmt: skip
        assert said in out, said
    assert run_view(mixed_run, "--terminal", "--episode", "4") == 0
    assert "task-3/0" in capsys.readouterr().out


def test_two_runs_of_one_name(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_run([plain_episode(1)], "a/run"), write_run([plain_episode(1)], "b/run")
    assert run_view(first, second, "--terminal", "--episode", "task-1/0") == 0
    out = capsys.readouterr().out
    assert f"({first}, line 1)" in out and f"({second}, line 1)" in out


def test_mistakes_are_explained(mixed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in [
        (("nowhere", "--terminal"), "no run at nowhere"),
        ((mixed_run, "--terminal", "--episode", "task-77/0"), "no episode 'task-77/0'"),
        ((mixed_run, "--terminal", "--only", "odd"), "no filter 'odd'"),
        ((mixed_run, "--tokenizer", "nowhere"), "no tokenizer at nowhere: expected a model's folder"),
    ]:
        assert run_view(*arguments) == 1
        assert said in capsys.readouterr().err


def test_damaged_lines(write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run([plain_episode(1)])
    append_line(folder, b"\x1b[31m not json\n")
    assert run_view(folder, "--terminal") == 0
    assert "DAMAGED  the line is not JSON" in capsys.readouterr().out
    assert run_view(folder, "--terminal", "--episode", "2") == 0
    assert "the line is not JSON" in capsys.readouterr().out


def test_nothing_that_acts_reaches_the_terminal(
    write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = rich_episode(0, HOSTILE, task_id=f"id {HOSTILE}", answer=HOSTILE, stop_reason=HOSTILE)
    hostile.turns[0].error = HOSTILE
    hostile.scores[HOSTILE] = 1.0
    long = plain_episode(1, prompt="[red]x[/red]" * 10_000)
    folder = write_run([hostile, long])
    for arguments in ((), ("--episode", "1"), ("--episode", "2")):
        assert run_view(folder, "--terminal", *arguments) == 0
        out = capsys.readouterr().out
        assert not any(ord(char) < 32 and char != "\n" for char in out)
        assert not any(char in out for char in "\x7f\x9b\u202e\u2066")
    assert "[red]x[/red]" in out and max(map(len, out.splitlines())) < 300


def test_a_reader_that_goes_away_is_no_error(mixed_run: Path, write_run: Callable[..., Path]) -> None:
    folder = write_run([plain_episode(i, prompt="long " * 300) for i in range(100)], "long")
    code = (
        "import argparse, sys; from forethought.trainers.commands import view\n"
        "parser = argparse.ArgumentParser(); view.add(parser.add_subparsers())\n"
        f"options = parser.parse_args(['view', {str(folder)!r}, '--terminal', '--episode', 'task-1/0'])\n"
        "sys.stdout.write('x' * 200_000); sys.exit(options.run(options))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0 and errors == b""
