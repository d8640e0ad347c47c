import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.envs import DatasetTasks, GeneratedTasks, JsonLinesTasks, ListedTasks, Split, Task, TaskError
from forethought.envs.tasks import as_task_set


def make(rng: random.Random, index: int) -> Task:
    return Task(id=str(index), prompt=str(rng.random()))


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return path


GOOD = json.dumps({"id": "a", "prompt": "?"})


def test_a_task_survives_its_row() -> None:
    task = Task(id="a", prompt="naïve 中文?", answer="x", aliases=("y",), difficulty=2.0, metadata={"k": [1]})
    assert Task.from_row(json.loads(json.dumps(task.to_row()))) == task
    assert Task.from_row({"id": "a", "prompt": "?"}) == Task(id="a", prompt="?")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "a"}, "'prompt' is a required property"),
        ({"id": "", "prompt": "?"}, "id: '' should be non-empty"),
        ({"id": 1, "prompt": "?"}, "id: 1 is not of type 'string'"),
        ({"id": "a", "prompt": "?", "aliases": "b"}, "aliases: 'b' is not of type 'array'"),
        ({"id": "a", "prompt": "?", "aliases": [1]}, "aliases.0: 1 is not of type 'string'"),
        ({"id": "a", "prompt": "?", "anwser": "b"}, "'anwser' was unexpected"),
        ([], "is not of type 'object'"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write(tmp_path / "tasks.jsonl", GOOD, "", json.dumps(row))
    with pytest.raises(TaskError) as caught:
        JsonLinesTasks(path)
    assert str(caught.value).startswith(f"{path}, line 3: not a task row: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["{", "NaN", '{"id": "b", "prompt": "?", "difficulty": NaN}', b"\xff\xfe", "[" * 100_000],
    ids=["cut", "constant", "nan", "bytes", "deep"],
)
def test_a_line_that_is_not_json_is_refused(tmp_path: Path, line: str | bytes) -> None:
    path = write(tmp_path / "tasks.jsonl", GOOD, line)
    with pytest.raises(TaskError, match=r"tasks.jsonl, line 2: not JSON"):
        JsonLinesTasks(path)


def test_ids_differ_within_a_set(tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.jsonl", GOOD, "", GOOD)
    with pytest.raises(TaskError, match=r"line 3: the id 'a' is taken by line 1"):
        JsonLinesTasks(path)
    with pytest.raises(TaskError, match="two tasks have the id 'a'"):
        ListedTasks([Task(id="a", prompt="?")] * 2)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        as_task_set(tmp_path / "none.jsonl")


def test_whatever_an_environment_is_given_becomes_a_task_set(tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.jsonl", b"\xef\xbb\xbf" + GOOD.encode())
    task = Task(id="a", prompt="?")
    for given in (path, str(path), [task], iter([task]), ListedTasks([task])):
        assert list(as_task_set(given)) == [task]


def test_a_generated_task_depends_on_split_and_index_only() -> None:
    tasks = GeneratedTasks(make, "train", 100)
    state = random.getstate()
    backwards = [tasks[i] for i in reversed(range(100))]
    assert list(tasks) == backwards[::-1] == list(GeneratedTasks(make, Split.TRAIN, 100))
    assert tasks[np.int64(3)] == tasks[3]  # type: ignore[index]
    assert random.getstate() == state


def test_splits_do_not_meet() -> None:
    prompts = [{task.prompt for task in GeneratedTasks(make, split, 1000)} for split in Split]
    assert len(set.union(*prompts)) == 3000


@pytest.mark.parametrize("index", [-1, 100])
def test_an_index_beyond_the_set_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        GeneratedTasks(make, "train", 100)[index]


@pytest.mark.parametrize("size", [0, 2**20 + 1])
def test_a_split_has_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="a split holds 1 to 1048576 tasks"):
        GeneratedTasks(make, "train", size)


def test_views_are_lazy_and_repeatable() -> None:
    tasks = GeneratedTasks(make, "train")
    assert len(tasks) == 2**20
    assert [task.id for task in tasks.head(3)] == ["0", "1", "2"]
    assert len(tasks.head(3).head(10)) == 3
    assert [task.id for task in tasks.select([5, 2])] == ["5", "2"]
    small = tasks.head(50)
    assert list(small.shuffled(1)) == list(small.shuffled(1)) != list(small.shuffled(2))
    assert {task.id for task in small.shuffled(1)} == {task.id for task in small}


class Rows(list[dict[str, Any]]):
    """What a Hugging Face data set looks like from here."""

    column_names = ("question", "answer", "n")


def test_a_dataset_is_read_by_columns() -> None:
    rows = Rows([{"question": "?", "answer": "x", "n": 2}, {"question": "!", "answer": None, "n": 3}])
    tasks = DatasetTasks(rows, columns={"prompt": "question", "difficulty": "n"})
    assert list(tasks) == [
        Task(id="0", prompt="?", answer="x", difficulty=2),
        Task(id="1", prompt="!", answer=None, difficulty=3),
    ]


def test_a_dataset_without_the_column_says_which_there_are() -> None:
    with pytest.raises(TaskError, match="data set: no column 'q'; the columns are question, answer, n"):
        DatasetTasks(Rows(), columns={"prompt": "q"})
    with pytest.raises(TaskError, match="data set, row 0: not a task row: 'prompt' is a required property"):
        DatasetTasks(Rows([{"question": "?", "answer": "x", "n": 2}]))
