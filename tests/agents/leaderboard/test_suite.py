from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.leaderboard import Suite, SuiteError, load_suite
from forethought.agents.leaderboard.suite import tasks_of
from forethought.envs.json_schema import first_violation, published_schema, published_validator

EXAMPLE = Path(__file__).parents[3] / "examples" / "leaderboard" / "small.toml"
TOML = """
# a comment
version = "1"
name = "s"
schema = "forethought/suite/1"
[sampling]
max_turn_tokens = 64
temperature = 1.0
[[entries]]
env_version = "1"
env = "forethought.envs:forethought/Pointer-v0"
name = "short"
tasks = 5
attempts = 1
kwargs = { hops = [0, 2] }
"""
SAME: dict[str, Any] = {
    "schema": "forethought/suite/1",
    "name": "s",
    "version": "1",
    "seed": 0,
    "description": "",
    "sampling": {"temperature": 1, "max_turn_tokens": 64},
    "entries": [
        {
            "name": "short",
            "env": "forethought.envs:forethought/Pointer-v0",
            "env_version": "1",
            "tasks": 5,
            "kwargs": {"hops": [0, 2]},
        }
    ],
}


def test_the_hash_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    (tmp_path / "b.json").write_text(json.dumps(SAME, indent=7))
    first, second = load_suite(tmp_path / "a.toml"), load_suite(tmp_path / "b.json")
    assert first.sha256 == second.sha256 and first.to_dict() == second.to_dict()
    assert Suite.from_dict(json.loads(json.dumps(first.to_dict()))).sha256 == first.sha256
    for name, value in {"name": "t", "version": "2", "seed": 1, "description": "x"}.items():
        assert Suite.from_dict({**SAME, name: value}).sha256 != first.sha256
    for name, value in {"tasks": 6, "attempts": 2, "mode": "bare", "window": {"limit": 9}}.items():
        entries = [{**SAME["entries"][0], name: value}]
        assert Suite.from_dict({**SAME, "entries": entries}).sha256 != first.sha256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "forethought/suite/2"}, "expected schema 'forethought/suite/1', found 'forethought/suite/2'"),
        ({"entries": []}, "entries: "),
        ({"more": 1}, "'more' was unexpected"),
        ({"sampling": {"max_turn_tokens": 0}}, "sampling.max_turn_tokens: 0 is less than the minimum of 1"),
        ({"entries": SAME["entries"] * 2}, "two entries have the name 'short'"),
        ({"entries": [{**SAME["entries"][0], "name": "../x"}]}, "entries.0.name"),
        ({"entries": [{**SAME["entries"][0], "mode": "bare", "kwargs": {"mode": "plan"}}]}, "gives 'mode' twice"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError) as error:
        Suite.from_dict({**SAME, **change}, "file.json")
    assert str(error.value).startswith("file.json: ") and told in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"none.toml' cannot be read: No such file"):
        load_suite(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_text("[")
    with pytest.raises(SuiteError, match=r"x.toml: neither TOML nor JSON"):
        load_suite(tmp_path / "x.toml")
    (tmp_path / "x.json").write_bytes(b"\xff")
    with pytest.raises(SuiteError, match=r"x.json: not in UTF-8"):
        load_suite(tmp_path / "x.json")


def test_what_the_suite_pins_is_checked() -> None:
    entry = SAME["entries"][0]

    def of(**changes: Any) -> Suite:
        return Suite.from_dict({**SAME, "entries": [{**entry, **changes}]})

    with pytest.raises(SuiteError, match=r"asks for version 9 of .*, installed is version 1"):
        of(env_version="9").entries[0].make()
    with pytest.raises(SuiteError, match="asks for 50 tasks, there are 3"):
        of(tasks=50, kwargs={"size": 3}).entries[0].make()
    with pytest.raises(SuiteError, match="these are not the suite's tasks: expected SHA-256 0000"):
        of(tasks_sha256="0" * 64).entries[0].make()


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_are_disjoint_and_whole(shards: int) -> None:
    entry = Suite.from_dict(SAME).entries[0]
    env = entry.make()
    whole = [task.id for task in tasks_of(env, entry)]
    parts = [task.id for shard in range(1, shards + 1) for task in tasks_of(env, entry, shard, shards)]
    assert sorted(parts) == sorted(whole) and len(whole) == 5


def test_the_examples_fit_the_schema() -> None:
    validator = published_validator("suite", "forethought.agents")
    for example in published_schema("suite", "forethought.agents")["examples"]:
        assert first_violation(validator, example) is None
        Suite.from_dict(example).entries[0].make()
    assert [entry.tasks for entry in load_suite(EXAMPLE).entries] == [40, 40, 40, 6]
