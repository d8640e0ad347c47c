"""Code tasks from the files of HumanEval and GSM8K."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..tasks import ListedTasks, Task, TaskError, TaskSet


def load_humaneval(path: str | Path) -> TaskSet:
    """HumanEval (Chen et al. 2021): complete a function; `check(candidate)` is hidden.

    Raises:
        TaskError: a line is not a HumanEval problem; file and line number are named.
    """
    return ListedTasks(
        Task(
            id=row["task_id"],
            prompt=f"Complete this function. Answer with the whole function, imports included.\n\n{row['prompt']}",
            metadata={
                "tests": row["test"],
                "entry_point": row["entry_point"],
                "setup": row["prompt"],
                "solution": row["prompt"] + row["canonical_solution"],
            },
        )
        for row in _rows(path, ("task_id", "prompt", "entry_point", "test", "canonical_solution"))
    )


def load_gsm8k(path: str | Path) -> TaskSet:
    """GSM8K (Cobbe et al. 2021): word problems whose answer, after `####`, is a number.

    Raises:
        TaskError: a line is not a GSM8K question; file and line number are named.
    """
    return ListedTasks(
        Task(
            id=f"gsm8k-{number}",
            prompt=f"{row['question']}\n\nAnswer with the number alone.",
            answer=row["answer"].rpartition("####")[2].strip().replace(",", ""),
            metadata={"solution": row["answer"]},
        )
        for number, row in enumerate(_rows(path, ("question", "answer")))
    )


def _rows(path: str | Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TaskError(f"{path}, line {number}: not JSON: {error}") from None
            missing = [key for key in keys if not isinstance(row, dict) or not isinstance(row.get(key), str)]
            if missing:
                raise TaskError(f"{path}, line {number}: expected a text {missing[0]!r}")
            yield row
