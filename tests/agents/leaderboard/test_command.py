"""The command line, from a suite file to a site."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from forethought.agents import ScriptedAgent
from forethought.agents.leaderboard import RunFiles, read_result
from forethought.envs.pointer.scripts import oracle
from forethought.trainers.commands import leaderboard
from forethought.trainers.toml_tables import ConfigError

SCRIPT = "script:forethought.envs.pointer.scripts:uninformed_plan"
SUITE = """
schema = "forethought/suite/1"
name = "s"
version = "1"
[sampling]
max_turn_tokens = 200
[[entries]]
name = "pointer"
env = "forethought.envs:forethought/Pointer-v0"
env_version = "1"
split = "test"
tasks = 6
attempts = 2
"""


def the_oracle() -> ScriptedAgent:
    return ScriptedAgent(oracle)


def no_agent() -> int:
    return 3


def forethought(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    leaderboard.add(parser.add_subparsers(required=True))
    options = parser.parse_args(["leaderboard", *map(str, arguments)])
    return options.run(options) or 0


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_from_a_suite_to_a_site(suite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "runs" / "a", tmp_path / "runs" / "b"
    prices = ["--prices", "input=1", "output=2", "unit=EUR"]
    assert forethought("run", suite_file, SCRIPT, "--out", here, "--name", "naïve", *prices) == 0
    shown = capsys.readouterr().out
    assert "12 (6 tasks)" in shown and "naïve: accuracy" in shown and "50 % horizon: pointer" in shown
    assert (
        forethought(
            "run", suite_file, "script:forethought.envs.pointer.scripts:oracle", "--out", there, "--shard", "2/2"
        )
        == 0
    )
    assert "shard 2 of 2 is done" in capsys.readouterr().out
    assert forethought("merge", there) == 1
    assert "shards are missing" in capsys.readouterr().err
    assert (
        forethought(
            "run", suite_file, "script:forethought.envs.pointer.scripts:oracle", "--out", there, "--shard", "1/2"
        )
        == 0
    )
    assert forethought("merge", there) == 0
    assert "oracle: accuracy 100.0 %" in capsys.readouterr().out.replace("\xa0", " ")
    assert forethought("verify", here, there, "--suite", suite_file) == 0
    assert capsys.readouterr().out.count(": verified: ") == 2
    assert forethought("compare", here, there) == 0
    assert "oracle less naïve" in capsys.readouterr().out
    assert forethought("build", tmp_path / "runs", "--out", tmp_path / "site", "--verify", "--suite", suite_file) == 0
    assert "2 runs in" in capsys.readouterr().out and (tmp_path / "site/runs/oracle.html").exists()


def test_a_forged_run_fails(suite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert forethought("run", suite_file, SCRIPT, "--out", tmp_path / "a") == 0
    path = tmp_path / "a" / "result.json"
    data = json.loads(path.read_text())
    data["accuracy"]["value"] = 0.125
    path.write_text(json.dumps(data))
    capsys.readouterr()
    assert forethought("verify", tmp_path / "a") == 1
    told = capsys.readouterr().out
    assert "result.json: does not say what the episodes say: accuracy.value is 0.125" in told
    assert "NOT verified, 1 findings" in told and "its own copy of its suite" in told
    assert forethought("build", tmp_path / "a", "--out", tmp_path / "site", "--verify") == 1
    assert "not ranked: result.json" in capsys.readouterr().err


def test_agents_of_any_kind(suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_agents", sys.modules[__name__])
    assert forethought("run", suite_file, "python:my_agents:the_oracle", "--out", tmp_path / "a") == 0
    result = read_result(RunFiles(tmp_path / "a"))
    assert result.accuracy.value == 1.0 and result.agent.name == "oracle"
    for agent, told in (
        ("python:my_agents:none", "has no function 'none'"),
        ("python:no_such_module:x", "No module named"),
        ("python:my_agents:no_agent", "expected a forethought.agents.Agent, found int without 'name'"),
        ("http://127.0.0.1:9/v1", "Give --server-model NAME"),
        ("script:nothing", "a script is named 'module:function'"),
    ):
        with pytest.raises(ConfigError, match=told):
            forethought("run", suite_file, agent, "--out", tmp_path / "b")
    with pytest.raises(ConfigError, match="--prices takes input=NUMBER"):
        forethought("run", suite_file, SCRIPT, "--out", tmp_path / "b", "--prices", "in=3")
    with pytest.raises(SystemExit):
        forethought("run", suite_file, SCRIPT, "--out", tmp_path / "b", "--shard", "3/2")
