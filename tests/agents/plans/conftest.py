from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forethought.agents.plans import DraftKind, PlanDraft, Provenance, new_draft, write_drafts
from forethought.envs.tasks import Task

Texts = list[tuple[str, list[int]]]
STEPS: Texts = [("Find A", []), ("Find B", []), ("Compare #1 with #2", [1, 2])]


def make_draft(
    name: str = "q0", texts: Texts = STEPS, prompt: str | None = None, original: str = "A and B"
) -> PlanDraft:
    steps = [{"number": i, "text": text, "after": after} for i, (text, after) in enumerate(texts, 1)]
    task = Task(id=name, prompt=prompt or f"Which is larger in {name}?", answer="A")
    provenance = Provenance(kind=DraftKind.HUMAN, source="a file", author="someone", original=original)
    return new_draft(task, "", task.prompt, steps, provenance)


@pytest.fixture
def drafts(tmp_path: Path) -> Callable[..., Path]:
    """Writes drafts to a folder: as many as are asked for, or those that are given."""

    def write(count: int = 3, *given: PlanDraft) -> Path:
        write_drafts(tmp_path / "plans", given or [make_draft(f"q{i}") for i in range(count)])
        return tmp_path / "plans"

    return write
