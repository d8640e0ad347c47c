from __future__ import annotations

from pathlib import Path

import pytest

from forethought.envs.pointer.scripts import oracle
from forethought.trainers.scripts import load_script
from forethought.trainers.toml_tables import ConfigError


def test_a_script_by_name() -> None:
    assert load_script("forethought.envs.pointer.scripts:oracle") is oracle


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forethought.envs.pointer.scripts", "a script is named 'module:function'"),
        ("forethought.envs.pointer.scripts:", "a script is named 'module:function'"),
        (":oracle", "a script is named 'module:function'"),
        ("forethought.envs.nowhere:oracle", "No module named 'forethought.envs.nowhere'"),
        ("forethought.envs.pointer.scripts:oracel", "did you mean 'oracle'"),
        ("forethought.envs.search.scripts:Call", "there are gold_decomposition, search_once"),
        ("forethought.envs.answers:exact_match", "no generator function 'exact_match'; there are none"),
    ],
)
def test_a_script_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_script(name)


def test_a_module_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_script_of_a_test.py").write_text("def oracle(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="broken_script_of_a_test"):
        load_script("broken_script_of_a_test:oracle")
