from __future__ import annotations

import json
from pathlib import Path

import pytest

from forethought.agents.plans import ReviewBook
from forethought.trainers.cli import main

ORACLE = ["script:forethought.envs.pointer.scripts:oracle", "--env", "forethought/Pointer-v0"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = main(["plans", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_plans_are_drafted_reviewed_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "plans", tmp_path / "set.jsonl"
    assert run(capsys, "draft", *ORACLE, "--out", folder, "--tasks", "2") == (
        0, f"2 plans drafted: {folder / 'plans.jsonl'}\n",
    )  # fmt: skip
    assert "1 plans drafted, 2 were there" in run(capsys, "draft", *ORACLE, "--out", folder, "--tasks", "3")[1]
    status, told = run(capsys, "export", folder, "--out", out)
    assert status == 1 and f"no plan of {folder} can be exported (3 not reviewed)" in told
    with ReviewBook(folder) as book:
        book.save(book.drafts[1].id, "Ada", 0, "accept", book.drafts[1].steps)
    status, told = run(capsys, "export", folder, "--out", out, "--spelling", "words")
    assert status == 0 and told == f"1 plans exported to {out}\n2 left out: not reviewed\n"
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["whole_turn"] and row["prompt"][-1]["content"].startswith("table ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.json"], "there is no such file or folder; a source is script:"),
        (["script:m:f"], "script 'm:f'"),
        (ORACLE[:1], "needs --env"),
        ([*ORACLE, "--set", "mode=bare"], "mode 'bare' has no plans"),
        (["server:http://127.0.0.1:9/v1", *ORACLE[1:]], "needs --model"),
        (["model:no-such-model", *ORACLE[1:]], "no-such-model"),
    ],
)
def test_a_source_that_is_none_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    status, told = run(capsys, "draft", *arguments, "--out", tmp_path / "plans")
    assert status == 1 and told.startswith("forethought: ") and words in told and told.count("\n") == 1


def test_a_folder_without_plans_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set.jsonl")
    for command in (["review", str(tmp_path)], ["export", str(tmp_path), "--out", out]):
        status, told = run(capsys, *command)
        assert status == 1 and "forethought plans draft" in told
