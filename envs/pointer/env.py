"""The Pointer environment."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..budgets import Budget
from ..protocol import Mode, SectionKind, Spelling
from ..tasks import Split, Task, TaskSet
from ..tasks.splits import SPLIT_SIZE
from ..tool_env import ToolEnv
from .tasks import VERSION, PointerTasks

WORDS = ("table", "start", "hops", "follow")


class PointerEnv(ToolEnv):
    """Follow a pointer a given number of times; one answer, no tools.

    Difficulty is known (the number of hops), so the tokens that a policy spends can be compared with the tokens that
    the task needs.

    Args:
        split: `train`, `validation` or `test`.
        hops: Smallest and largest number of hops.
        symbols: Size of the permutation.
        size: How many tasks.
        tasks: A task set in place of the generated one.
        spelling: `words` by default: the family is made for models that are trained from scratch.
        budget: Two turns by default, so that a malformed first turn can be mended.
        options: Everything else that `ToolEnv` takes.
    """

    version = VERSION

    def __init__(
        self,
        *,
        split: Split | str = Split.TRAIN,
        hops: tuple[int, int] = (0, 8),
        symbols: int = 12,
        size: int = SPLIT_SIZE,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        spelling: Spelling | str = Spelling.WORDS,
        budget: Budget | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        generated = PointerTasks(split, (hops[0], hops[1]), symbols, size) if tasks is None else tasks
        super().__init__(generated, spelling=spelling, budget=budget or Budget(turns=2), **options)

    def score(self, answer: str | None) -> dict[str, float]:
        """Score the episode.

        `correct`: the answer is the symbol that the path ends at. `followed` (in mode `plan`): there are as many
        thinking steps as the plan says. `as_planned`: both.
        """
        correct = float(answer == self.task.answer)
        if self.mode is not Mode.PLAN:
            return {"correct": correct}
        thought = next((s.text.split() for s in self.turn.sections if s.kind is SectionKind.THINK), [])
        followed = float(answer is not None and self._planned_steps() == len(thought))
        return {"correct": correct, "followed": followed, "as_planned": correct * followed}

    def _planned_steps(self) -> int | None:
        """The number in the plan `1. follow 7`; None for any other plan."""
        words = self.plan.steps[0].text.split() if self.plan is not None else []
        return int(words[1]) if len(words) == 2 and words[0] == "follow" and words[1].isdecimal() else None

    def vocabulary(self) -> list[str]:
        """Symbols, numbers, step numbers and the words of prompts and plans."""
        numbers = [str(n) for n in range(33)]
        return [*WORDS, *string.ascii_uppercase, *numbers, *(f"{n}." for n in range(1, 10))]
