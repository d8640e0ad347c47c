"""Where tasks come from."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .splits import SPLIT_SIZE, SPLIT_START, Split
from .task import Task, TaskError
from .task_set import TaskSet


class ListedTasks(TaskSet):
    """Tasks held in memory.

    Raises:
        TaskError: two tasks share an id.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = list(tasks)
        seen: set[str] = set()
        for task in self._tasks:
            if task.id in seen:
                raise TaskError(f"two tasks have the id {task.id!r}; ids must differ within a task set")
            seen.add(task.id)

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        return self._tasks[index]


class JsonLinesTasks(ListedTasks):
    """Tasks from a JSON Lines file, one row of the published schema `task` a line.

    Raises:
        TaskError: a line is not a task; file and line number are named.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(_read_lines(Path(path)))


class DatasetTasks(ListedTasks):
    """Tasks from a Hugging Face data set (an object with rows, or a name that `datasets.load_dataset` knows).

    Args:
        dataset: The data set or its name.
        split: The split to load when a name is given.
        columns: Which column each field of a task is read from; fields that are not named are read from a column of
            their own name where there is one. A task without an id column is numbered.
    """

    def __init__(self, dataset: Any, *, split: str = "train", columns: Mapping[str, str] | None = None) -> None:
        name = dataset if isinstance(dataset, str) else "data set"
        if isinstance(dataset, str):
            from datasets import load_dataset

            dataset = load_dataset(dataset, split=split)
        source = {field: field for field in Task.__dataclass_fields__} | dict(columns or {})
        missing = [c for f, c in (columns or {}).items() if c not in dataset.column_names]
        if missing:
            raise TaskError(f"{name}: no column {missing[0]!r}; the columns are {', '.join(dataset.column_names)}")
        present = {field: column for field, column in source.items() if column in dataset.column_names}
        super().__init__(
            Task.from_row({"id": str(i)} | {f: row[c] for f, c in present.items()}, f"{name}, row {i}")
            for i, row in enumerate(dataset)
        )


class GeneratedTasks(TaskSet):
    """Tasks from a procedural generator: item `i` of a split is a pure function of the seed range and `i`.

    Args:
        make: `make(rng, index)` gives the task; it must use no other source of randomness.
        split: The seed range: items of different splits are made from different seeds.
        size: How many tasks, at most 2**20.
    """

    def __init__(self, make: Callable[[random.Random, int], Task], split: Split | str, size: int = SPLIT_SIZE) -> None:
        if not 1 <= size <= SPLIT_SIZE:
            raise ValueError(f"a split holds 1 to {SPLIT_SIZE} tasks, found size={size}")
        self._make = make
        self._start = SPLIT_START[Split(split)]
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < self._size:
            raise IndexError(f"task {index} of {self._size}")
        item = self._start + operator.index(index)
        return self._make(random.Random(item), item)


def as_task_set(tasks: TaskSet | Iterable[Task] | str | Path) -> TaskSet:
    """A task set from whatever an environment was given: a task set, tasks, or the path of a JSON Lines file."""
    if isinstance(tasks, TaskSet):
        return tasks
    if isinstance(tasks, (str, Path)):
        return JsonLinesTasks(tasks)
    return ListedTasks(tasks)


def _read_lines(path: Path) -> Iterable[Task]:
    lines: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line, parse_constant=_reject_constant)
            except (ValueError, RecursionError) as error:
                raise TaskError(f"{where}: not JSON: {error}") from None
            task = Task.from_row(row, where)
            first = lines.setdefault(task.id, number)
            if first != number:
                raise TaskError(f"{where}: the id {task.id!r} is taken by line {first}; ids must differ")
            yield task


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
