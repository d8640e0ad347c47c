"""Plans that people wrote already: the question decompositions of StrategyQA and MuSiQue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...envs.search.passages import DataError, expect, read_rows, shorten
from ...envs.search.questions import load_questions
from ...envs.tasks import Task
from .drafts import DraftKind, PlanDraft, Provenance, new_draft
from .errors import PlanError

_REFERENCE = re.compile(r"#(\d+)")


def decomposition_drafts(path: str | Path, limit: int | None = None, instructions: str = "") -> Iterator[PlanDraft]:
    """The decompositions of a file as plans: a step waits for the steps whose answers (`#1`, `#2`) it names.

    Args:
        path: StrategyQA's or MuSiQue's file; a JSON list or JSON Lines, `.gz` or not.
        limit: Most plans.
        instructions: What the policy reads before the question.

    Raises:
        PlanError: the rows of the file have no decompositions, or one is damaged; file and line are named.
        FileNotFoundError: there is no such file.
    """
    try:
        yield from _drafts(Path(path), limit, instructions)
    except DataError as error:
        raise PlanError(str(error)) from None


def steps_of_decomposition(texts: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Plan steps of sub-questions, and what could not be kept: empty ones, and references to no earlier answer."""
    kept = [number for number, text in enumerate(texts, 1) if text.strip()]
    numbers = {old: new for new, old in enumerate(kept, 1)}
    notes = [f"sub-question {n} was empty and is left out" for n in range(1, len(texts) + 1) if n not in numbers]
    steps = []
    for number, old in enumerate(kept, 1):
        after = set()
        for reference in map(int, _REFERENCE.findall(texts[old - 1])):
            earlier = numbers.get(reference)
            if earlier is None or earlier >= number:
                notes.append(f"step {number} refers to #{reference}, which is no earlier step")
            else:
                after.add(earlier)
        text = _REFERENCE.sub(lambda m: f"#{numbers.get(int(m[1]), m[1])}", " ".join(texts[old - 1].split()))
        steps.append({"number": number, "text": text, "after": sorted(after)})
    return steps, notes


def _drafts(path: Path, limit: int | None, instructions: str) -> Iterator[PlanDraft]:
    where, first = next(read_rows(path), ("", None))
    if isinstance(first, dict) and "question_decomposition" in first:
        rows = _musique(path)
    elif isinstance(first, dict) and "decomposition" in first:
        rows = _strategy_qa(path)
    else:
        raise PlanError(
            f'{where or path}: expected a row with "decomposition" (StrategyQA) or "question_decomposition" (MuSiQue), '
            f"found {shorten(first)}"
        )
    for count, (task, texts, author) in enumerate(rows):
        if count == limit:
            return
        steps, notes = steps_of_decomposition(texts)
        if not steps:
            continue
        provenance = Provenance(
            kind=DraftKind.HUMAN, source=path.name, author=author, original="\n".join(texts), notes=notes
        )
        yield new_draft(task, instructions, task.prompt, steps, provenance)


def _strategy_qa(path: Path) -> Iterator[tuple[Task, list[str], str]]:
    for where, raw in read_rows(path):
        texts = expect(raw, "decomposition", list, where)
        if not all(isinstance(text, str) for text in texts):
            raise PlanError(f'{where}: expected "decomposition" to be a list of texts, found {shorten(texts)}')
        answer = raw.get("answer")
        task = Task(
            id=expect(raw, "qid", str, where),
            prompt=expect(raw, "question", str, where),
            answer=("yes" if answer else "no") if isinstance(answer, bool) else None,
            difficulty=float(len(texts)),
            metadata={key: raw[key] for key in ("term", "description", "facts") if key in raw},
        )
        yield task, texts, "StrategyQA annotators"


def _musique(path: Path) -> Iterator[tuple[Task, list[str], str]]:
    for row in load_questions(path):
        task = Task.from_row(row)
        yield task, [hop["question"] for hop in task.metadata["decomposition"]], "MuSiQue annotators"
