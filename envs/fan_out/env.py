"""The FanOut environment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..budgets import Budget
from ..protocol import ParsedTurn, Spelling
from ..sub_models import ASK, SELF, SubTaskEnv
from ..tasks import Split, Task, TaskSet
from ..tasks.splits import SPLIT_SIZE
from ..tool_env import StepOutcome, ToolEnv
from ..tools import CallResult, SubAnswer, ToolError, tool
from .tasks import KINDS, MAX_ENTITIES, MAX_LENGTH, MAX_RELATIONS, MAX_WIDTH, VERSION, FanOutTasks
from .ways import LOOK_UP
from .world import World

if TYPE_CHECKING:
    from ..tool_env import AnswerSubTask

BIG = "big"
"""Name of the sub-model that the environment brings itself: it answers every chain at once, for a price."""
MAX_ACCELERATION = 0.2
"""Of ThreadWeaver's P-GRPO (arXiv 2512.07843)."""
WORDS = (";", "then", LOOK_UP, ASK, SELF, BIG)


class FanOutEnv(ToolEnv):
    """Follow chains of relations through a world that only the tool `look_up` can see, alone or by sub-tasks.

    With the option `sub_models` the policy may hand chains out (tool `ask`). Whether that pays depends on the task:
    the chains of a fan do not depend on each other, the look-ups of one chain do, and a mixture has two stages.

    Tokens of the task's own context in mode `plan` and spelling `words`, for m chains of three look-ups each: worked
    serially 57 m + 7, handed out 23 m + 9, and 23 more for the second stage of a mixture. With a window of 152 tokens
    two chains can be worked serially (121, a mixture 144; three take 178), six handed out (147; a mixture of five 147).
    Sampled tokens on the critical path: serially 40 m + 5, handed out 15 m + 51.

    Args:
        split: `train`, `validation` or `test`.
        kinds: Which kinds of tasks, see `FanOutTasks`.
        widths: Smallest and largest number of chains of a fan or mixture.
        hops: Smallest and largest number of look-ups of each of their chains.
        lengths: Smallest and largest number of look-ups of a chain that stands alone.
        entities: Entities of a world.
        relations: Relations of a world.
        size: How many tasks.
        big_cost: What a call of the sub-model `big` costs; with `sub_models=["self", "big"]` the policy chooses.
        tasks: A task set in place of the generated one.
        spelling: `words` by default: the family is made for models that are trained from scratch.
        budget: 32 turns of each context by default.
        options: Everything else that `ToolEnv` takes.
    """

    version = VERSION
    score_weights: ClassVar[Mapping[str, float]] = {"correct": 1.0, "cost": -0.01}

    def __init__(
        self,
        *,
        split: Split | str = Split.TRAIN,
        kinds: Sequence[str] = KINDS,
        widths: tuple[int, int] = (1, 4),
        hops: tuple[int, int] = (3, 3),
        lengths: tuple[int, int] = (1, 4),
        entities: int = 24,
        relations: int = 8,
        size: int = SPLIT_SIZE,
        big_cost: float = 1.0,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        spelling: Spelling | str = Spelling.WORDS,
        budget: Budget | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        generated = tasks
        if generated is None:
            generated = FanOutTasks(split, kinds, _pair(widths), _pair(hops), _pair(lengths), entities, relations, size)
        super().__init__(generated, spelling=spelling, budget=budget or Budget(turns=32), **options)
        self._big_cost = big_cost
        self._has_big = BIG in self.sub_models
        # Those that a rollout brings. So a sub-task cannot ask `big` in its turn.
        self.sub_models = tuple(name for name in self.sub_models if name != BIG)
        self._turns: list[list[CallResult]] = []

    @property
    def answer_sub_task(self) -> AnswerSubTask | None:
        """Has a sub-task answered: `big` by the environment itself, every other sub-model by the rollout."""
        return self._answer_sub_task if self._has_big else self._others

    @answer_sub_task.setter
    def answer_sub_task(self, value: AnswerSubTask | None) -> None:
        self._others = value

    def begin(self) -> None:
        """A world of the task's own, and no calls yet."""
        self._world = World(**self.task.metadata["world"])
        self._turns = []

    @tool(timeout=None)
    def look_up(self, question: str) -> str:
        """Find the entity that a relation leads to.

        Args:
            question: An entity and a relation: `E3 R1`.
        """
        words = question.split()
        try:
            entity, relation = words
            return self._world.look_up(entity, relation)
        except (ValueError, KeyError):
            raise ToolError(f"expected an entity and a relation such as 'E3 R1', found {question[:40]!r}") from None

    def score(self, answer: str | None) -> dict[str, float]:
        """Score the episode.

        `correct`: the answer names the right entities in the right order. Of the calls that the policy made in the
        task's own context: `calls`, `width` (most in one turn), `parallel` (share that was made together with another
        one), `duplicates` (share that had been made before); `oracle_width` is the width of the way with the shortest
        critical path. For rewards, and 0 unless the answer is correct, because to fail cheaply or fast must not pay:
        `cost` (what sub-models cost), `waiting` (sampled tokens on the critical path), `acceleration` (share of the
        sampled tokens that ran beside others, at most 0.2, so that splitting further stops paying).
        """
        correct = float(answer is not None and answer.split() == (self.task.answer or "").split())
        calls = sum(map(len, self._turns))
        asked = {(call.name, json.dumps(call.arguments, sort_keys=True)) for turn in self._turns for call in turn}
        total = self.usage.sampled_tokens
        waiting = total - sum(map(_beside_others, self._turns))
        return {
            "correct": correct,
            "cost": correct * self.usage.cost,
            "waiting": correct * waiting,
            "acceleration": correct * min(1 - waiting / total, MAX_ACCELERATION) if total else 0.0,
            "calls": float(calls),
            "width": float(max(map(len, self._turns), default=0)),
            "oracle_width": float(self.task.metadata["oracle_width"]),
            "parallel": sum(len(turn) for turn in self._turns if len(turn) > 1) / max(1, calls),
            "duplicates": 1 - len(asked) / calls if calls else 0.0,
        }

    def vocabulary(self) -> list[str]:
        """Entities, relations, numbers, step numbers and the words of prompts and plans."""
        names = [*(f"E{n}" for n in range(MAX_ENTITIES)), *(f"R{n}" for n in range(MAX_RELATIONS))]
        steps = range(1, MAX_WIDTH * MAX_LENGTH + 2)
        return [*KINDS, *WORDS, *names, *(str(n) for n in steps), *(f"{n}." for n in steps)]

    async def _answer_sub_task(self, sub_task: SubTaskEnv, model: str) -> SubAnswer:
        if model != BIG:
            if self._others is None:
                raise ToolError(f"the sub-model {model!r} cannot be asked here: a rollout brings it")
            return await self._others(sub_task, model)
        try:
            text = self._world.follow(sub_task.task.prompt.split())[-1]
        except LookupError:
            return SubAnswer(model=BIG, text=None, stop_reason="not a chain", cost=self._big_cost)
        return SubAnswer(model=BIG, text=text, cost=self._big_cost)

    def _answer(self, turn: ParsedTurn, results: list[CallResult], sampled_tokens: int | None) -> StepOutcome:
        if results:
            self._turns.append(results)
        return super()._answer(turn, results, sampled_tokens)


def _beside_others(turn: list[CallResult]) -> int:
    """Tokens that the sub-calls of one turn sampled while a longer one went on."""
    tokens = [call.sampled_tokens for call in turn]
    return sum(tokens) - max(tokens)


def _pair(bounds: Sequence[int]) -> tuple[int, int]:
    low, high = bounds
    return low, high
