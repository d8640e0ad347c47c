from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from forethought.agents.published import FileCheck, SchemaError, line_of, published_schemas
from forethought.trainers.cli import main

TASK = {"id": "a", "prompt": "?"}


def check(path: Path, text: str, name: str | None = None) -> list[str]:
    path.write_text(text)
    return [str(problem) for problem in FileCheck(path, name).problems()]


@pytest.mark.parametrize("name", sorted(published_schemas()))
def test_a_published_schema_is_one_and_its_examples_are_valid(name: str) -> None:
    published = published_schemas()[name]
    schema = published.load()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == published.id and published.version >= 1
    for example in schema.get("examples", ()):
        jsonschema.Draft202012Validator(schema).validate(example)


def test_task_plan_and_trace_are_published() -> None:
    assert {"task", "episode", "plan-draft", "plan-review", "plan-example"} <= set(published_schemas())
    assert all(
        "examples" in published_schemas()[n].load() for n in ("task", "plan-draft", "plan-review", "plan-example")
    )


def test_lines_are_named(tmp_path: Path) -> None:
    text = "\n".join([json.dumps(TASK), "", "{", json.dumps(TASK | {"id": 3, "more": 1}), '{"id": "b'])
    problems = check(tmp_path / "t.jsonl", text, "task")
    assert problems[0].startswith("line 3: not JSON")
    assert problems[1].startswith("line 4: ") and "'more' was unexpected" in "".join(problems[1:3])
    assert any(p.startswith("line 4: id: 3 is not of type 'string'") for p in problems)
    assert problems[-1] == "line 5: the last line is not whole: its writer was killed"


def test_rows_say_what_they_are(tmp_path: Path) -> None:
    example: dict[str, Any] = published_schemas()["plan-review"].load()["examples"][0]
    newer = example | {"schema": "forethought/plan-review/2"}
    unknown = example | {"schema": "forethought/nothing/1"}
    text = "".join(json.dumps(row) + "\n" for row in (example, newer, unknown))
    first, second = check(tmp_path / "r.jsonl", text)
    assert (
        first
        == "line 2: written with schema 'forethought/plan-review/2', this version knows 'forethought/plan-review/1'"
    )
    assert second.startswith("line 3: there is no schema 'forethought/nothing/1'")
    with pytest.raises(SchemaError, match='line 1: no field "schema" says what this is'):
        check(tmp_path / "t.jsonl", json.dumps(TASK))


def test_a_json_document_has_lines_too(tmp_path: Path) -> None:
    rows = [TASK, {"id": "b", "prompt": 1}]
    assert check(tmp_path / "t.json", json.dumps(rows, indent=1), "task") == [
        "line 8: prompt: 1 is not of type 'string'"
    ]
    (problem,) = check(tmp_path / "t.json", '{\n"id": }', "task")
    assert problem.startswith("line 2: not JSON")


def test_a_toml_document_is_held_against_a_schema(tmp_path: Path) -> None:
    assert check(tmp_path / "t.toml", 'id = "a"\nprompt = "?"', "task") == []
    assert check(tmp_path / "t.toml", "id = 1", "task")
    assert check(tmp_path / "t.toml", "id = ", "task")[0].startswith("not TOML")


@pytest.mark.parametrize(
    ("path", "line"),
    [((), 1), (("a",), 2), (("b",), 3), (("b", 1), 4), (("b", 1, "c"), 5), (("b", 9), 3), (("z",), 1), (("a", "x"), 2)],
)
def test_the_line_of_a_value(path: tuple[str | int, ...], line: int) -> None:
    text = '{\n"a": "}\\"",\n"b": [1,\n{\n"c" : {}},\n[2]]\n}'
    assert line_of(text, path) == line


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schemas", "list"]) == 0
    assert "forethought/task/1" in capsys.readouterr().out
    assert main(["schemas", "show", "task"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "forethought/task/1"
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(TASK) + "\n")
    assert main(["schemas", "validate", str(path), "--schema", "task"]) == 0
    assert "1 rows of forethought/task/1: all valid" in capsys.readouterr().out
    path.write_text('{"id": "\\u001b[2J"}\n')
    assert main(["schemas", "validate", str(path), "--schema", "task"]) == 1
    out = capsys.readouterr().out
    assert "line 1: 'prompt' is a required property" in out and "\x1b" not in out
    assert main(["schemas", "validate", str(path), "--schema", "tsk"]) == 1
    assert "there is no schema 'tsk'" in capsys.readouterr().err
