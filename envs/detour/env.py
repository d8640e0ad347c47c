"""The Detour environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

from ..budgets import Budget
from ..protocol import Spelling
from ..tasks import Split, Task, TaskSet
from ..tasks.splits import SPLIT_SIZE
from ..tool_env import ToolEnv
from ..tools import ToolError, tool
from .tasks import ENTITIES, MOST_HOPS, RELATIONS, TOOL, TYPES, VERSION, DetourOptions, DetourTasks

NIL = "nil"
DISCOUNT = 0.95
"""What a right answer loses by each look-up that the oracle does without."""
RULES = (
    "Each route is a list of relations, each followed by the type that its result must have. Begin at the start and "
    f"look up the relations of one route, one after the other, with {TOOL}. Where a look-up gives {NIL} or an entity "
    "of another type, the route is broken: take another one from the start. All routes that are not broken end at the "
    "same entity. Answer with its name."
)


class DetourEnv(ToolEnv):
    """Follow a route to the answer; when it turns out to be broken, take another.

    Args:
        split: `train`, `validation` or `test`.
        hops: Smallest and largest length of a route.
        routes: Smallest and largest number of routes.
        broken: Share of the tasks that have broken routes.
        failures: How many routes are broken in such a task.
        traps: Share of the broken routes that mislead (another type than promised) instead of ending.
        broken_first: Whether the shortest routes are the broken ones; any may be by default.
        unseen_pairs: Whether every route holds a pair of relations that no task without this option has.
        entities: Size of the world.
        size: How many tasks.
        tasks: A task set in place of the generated one.
        spelling: `words` by default: the family is made for models that are trained from scratch.
        budget: By default as many look-ups as the oracle can need and two more, two turns more than that, and the
            third time that a look-up gives the same answer is the last.
        options: Everything else that `ToolEnv` takes.
    """

    version = VERSION
    score_weights: ClassVar[Mapping[str, float]] = {"efficient": 1.0}

    def __init__(
        self,
        *,
        split: Split | str = Split.TRAIN,
        hops: tuple[int, int] = (1, 4),
        routes: tuple[int, int] = (2, 3),
        broken: float = 0.3,
        failures: int = 1,
        traps: float = 0.5,
        broken_first: bool = False,
        unseen_pairs: bool = False,
        entities: int = 24,
        size: int = SPLIT_SIZE,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        spelling: Spelling | str = Spelling.WORDS,
        budget: Budget | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        kind = DetourOptions(
            hops=(hops[0], hops[1]),
            routes=(routes[0], routes[1]),
            broken=broken,
            failures=failures,
            traps=traps,
            broken_first=broken_first,
            unseen_pairs=unseen_pairs,
            entities=entities,
        )
        calls = (failures + 1) * hops[1] + 2
        super().__init__(
            DetourTasks(split, kind, size) if tasks is None else tasks,
            spelling=spelling,
            budget=budget or Budget(turns=calls + 2, tool_calls=calls, repeats=3),
            **options,
        )

    def task_prompt(self) -> str:
        """The task; in the spelling `json` after the rules, which models that speak `words` are trained on."""
        return f"{RULES}\n\n{self.task.prompt}" if self.codec.spelling is Spelling.JSON else self.task.prompt

    def begin(self) -> None:
        """Stand at the start."""
        world = self.task.metadata
        self._at: str = world["start"]
        self._look_ups = 0
        self._type_of = {name: t for t, members in world["types"].items() for name in members}

    @tool(timeout=None)
    def look_up(self, relation: str, entity: str | None = None) -> str:
        """Follow a relation from an entity, by default from the last one found (at first the start).

        Gives the entity found and its type.
        """
        self._look_ups += 1
        found = self._follow(relation, self._at if entity is None else entity)
        if found is None:
            raise ToolError(NIL)
        self._at = found
        return f"{found} {self._type_of[found]}"

    def score(self, answer: str | None) -> dict[str, float]:
        """Score the episode.

        `correct`: the answer is the entity that the sound routes end at. `efficient`: the same, less 5 % for every
        look-up that the oracle does without (GEM's discount of turns, arXiv 2510.01051, counted from the oracle).
        """
        correct = float(answer == self.task.answer)
        needless = max(0, self._look_ups - int(self.task.metadata["oracle_calls"]))
        return {"correct": correct, "efficient": correct * DISCOUNT**needless}

    def vocabulary(self) -> list[str]:
        """Names, step numbers and the words of prompts, calls and answers."""
        numbers = [str(n) for n in range(1, MOST_HOPS)]
        steps = [f"{n}." for n in range(1, MOST_HOPS + 1)]
        return ["routes", "or", "start", TOOL, "Error:", NIL, *ENTITIES, *RELATIONS, *TYPES, *numbers, *steps]

    def _follow(self, relation: str, entity: str) -> str | None:
        """Where a relation leads. Off the routes it is defined at about half of the entities, and keeps its promise."""
        world = self.task.metadata
        on_route = world["edges"].get(relation, {})
        if entity in on_route:
            found: str | None = on_route[entity]
            return found
        if relation not in world["promises"] or entity not in self._type_of:
            return None
        chance = crc32(f"{self.task.id} {relation} {entity}".encode())
        members: list[str] = world["types"][world["promises"][relation]]
        return members[(chance >> 1) % len(members)] if chance % 2 else None
