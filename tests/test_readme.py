"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_example_earns_its_reward(capsys: pytest.CaptureFixture[str]) -> None:
    exec(PYTHON[0], {})
    prompt, result = capsys.readouterr().out.splitlines()
    assert f"# {prompt}" in PYTHON[0]
    assert result.startswith("1.0 {'correct': 1.0, 'followed': 1.0")


def test_the_environment_of_ones_own_runs() -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[1], names)
    env = names["Shop"]()
    env.reset(seed=0)
    calls = '<tool_call>{"name": "price", "arguments": {"fruit": "pear"}}</tool_call>' * 2
    assert env.step(f"<plan>1. ask</plan>{calls}")[0].count("3") == 2
    assert env.step("<answer>8</answer>")[1] == 1.0


def test_every_linked_file_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), f"README.md links to {link}"


def test_every_recipe_it_names_is_there() -> None:
    for recipe in re.findall(r"examples/\S+\.(?:toml|jsonl)", README):
        assert (ROOT / recipe).exists(), f"README.md names {recipe}"
