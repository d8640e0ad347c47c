"""Tasks of the Detour family: alternative routes through a hidden world, of which some are broken."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from zlib import crc32

from ..tasks import GeneratedTasks, Split, Task
from ..tasks.splits import SPLIT_SIZE

VERSION = "1"
ENTITIES = tuple(f"E{i}" for i in range(32))
RELATIONS = tuple(f"R{i}" for i in range(26))
TYPES = tuple(f"T{i}" for i in range(4))
MOST_HOPS = 8
MOST_ROUTES = 3
TOOL = "look_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetourOptions:
    """What the tasks are like.

    Raises:
        ValueError: there are no such tasks.
    """

    hops: tuple[int, int] = (1, 4)
    """Smallest and largest length of a route; the routes of a task differ in length as far as this allows."""
    routes: tuple[int, int] = (2, 3)
    """Smallest and largest number of routes."""
    broken: float = 0.3
    """Share of the tasks that have broken routes."""
    failures: int = 1
    """How many routes are broken in such a task."""
    traps: float = 0.5
    """Share of the broken routes that lead on, but to an entity of another type than promised; the others end."""
    broken_first: bool = False
    """Whether the shortest routes are broken, so that a good policy meets all failures in a row; else any may be."""
    unseen_pairs: bool = False
    """Whether every route holds a pair of successive relations that no task without this option has."""
    entities: int = 24
    """Size of the world."""

    def __post_init__(self) -> None:
        for name, most in (("hops", MOST_HOPS), ("routes", MOST_ROUTES)):
            low, high = getattr(self, name)
            if not 1 <= low <= high <= most:
                raise ValueError(
                    f"{name} must be (smallest, largest) with 1 <= smallest <= largest <= {most}, "
                    f"found {getattr(self, name)}"
                )
        for name in ("broken", "traps"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1, found {getattr(self, name)}")
        if not 0 <= self.failures < self.routes[0]:
            raise ValueError(
                f"failures must leave a sound route: at least 0 and fewer than the {self.routes[0]} routes of the "
                f"smallest task, found {self.failures}"
            )
        if self.unseen_pairs and self.hops[0] < 2:
            raise ValueError(f"unseen_pairs needs routes of at least 2 hops to hold a pair, found hops={self.hops}")
        # Entities of the routes, all different, and of each type one that is neither the start nor the answer.
        least = max(3 * len(TYPES), 2 + self.routes[1] * (self.hops[1] - 1))
        if not least <= self.entities <= len(ENTITIES):
            raise ValueError(
                f"entities must be {least} to {len(ENTITIES)} with up to {self.routes[1]} routes of up to "
                f"{self.hops[1]} hops, found {self.entities}"
            )


class Break(NamedTuple):
    """How a route is broken."""

    depth: int
    """The hop that does not give what was promised, counted from 1."""
    trap: bool
    """Whether it gives an entity of another type; otherwise it gives nothing."""


class DetourTasks(GeneratedTasks):
    """`routes R3 T2 R7 T0 or R1 T1 R4 T3 R9 T0 start E5`: the answer is the entity that the sound routes end at.

    A route is a list of relations, each followed by the type that its result must have. What they lead to is hidden:
    it is looked up hop by hop. A broken route has either a hole (at some hop there is nothing) or a trap (at some hop
    there is an entity of another type, from where the route leads on to a wrong end). Names are drawn anew in every
    task. Difficulty is the number of look-ups of the best policy that cannot know what is broken: the shortest route
    first, the next shortest from the contradiction on.

    The metadata hold what is in the prompt (`routes`, `promises`, `start`), the hidden world (`types`, `edges`; what
    is not listed there is decided by the task's id), and what strategy is measured against: `broken` (numbers of the
    broken routes), `contradictions` (calls whose answer contradicts a promise, other than by failing) and
    `oracle_calls`.

    Args:
        split: Seed range of the tasks.
        options: What the tasks are like.
        size: How many tasks.
    """

    def __init__(
        self, split: Split | str = Split.TRAIN, options: DetourOptions | None = None, size: int = SPLIT_SIZE
    ) -> None:
        self._options = options or DetourOptions()
        self._prefix = f"detour{VERSION}-{Split(split)}-{_digest(self._options)}"
        super().__init__(self._make_task, split, size)

    def _make_task(self, rng: random.Random, item: int) -> Task:
        options = self._options
        lengths = _lengths(rng, options)
        routes = _relations(rng, lengths, options.unseen_pairs)
        breaks = _breaks(rng, lengths, options)
        names = rng.sample(ENTITIES, options.entities)
        type_of = {name: TYPES[i % len(TYPES)] for i, name in enumerate(rng.sample(names, len(names)))}
        start, answer, *others = names
        promises: dict[str, str] = {}
        edges: dict[str, dict[str, str | None]] = {}
        contradictions: list[dict[str, Any]] = []
        for number, route in enumerate(routes):
            path = [*(others.pop() for _ in route[1:]), answer]
            promises |= {relation: type_of[entity] for relation, entity in zip(route, path, strict=True)}
            reached: list[str | None] = [*path]
            if number in breaks:
                at = breaks[number].depth - 1
                reached[at:] = [None]
                if breaks[number].trap:
                    astray = _astray(rng, [promises[r] for r in route[at:]], type_of, {start, answer})
                    reached[at:] = astray
                    contradictions.append(_contradiction(route[at], f"{astray[0]} {type_of[astray[0]]}"))
            for relation, origin, entity in zip(route, [start, *reached], reached, strict=False):
                edges[relation] = {str(origin): entity}
        oracle_calls = _oracle_calls(lengths, breaks)
        return Task(
            id=f"{self._prefix}-{item}",
            prompt=f"routes {' or '.join(_written(route, promises) for route in routes)} start {start}",
            answer=answer,
            difficulty=float(oracle_calls),
            metadata={
                "routes": routes,
                "promises": promises,
                "start": start,
                "types": {t: [name for name in names if type_of[name] == t] for t in TYPES},
                "edges": edges,
                "broken": sorted(breaks),
                "contradictions": contradictions,
                "oracle_calls": oracle_calls,
            },
        )


@cache
def unseen_pairs() -> frozenset[tuple[str, str]]:
    """A fifth of all ordered pairs of relations: in no route of a task without the option `unseen_pairs`."""
    return frozenset((a, b) for a in RELATIONS for b in RELATIONS if crc32(f"{a} {b}".encode()) % 5 == 0)


def _digest(options: DetourOptions) -> str:
    """Tells tasks with different options apart."""
    o = options
    text = f"{o.hops} {o.routes} {o.broken:g} {o.failures} {o.traps:g} {o.broken_first} {o.unseen_pairs} {o.entities}"
    return f"{crc32(text.encode()):08x}"


def _written(route: list[str], promises: dict[str, str]) -> str:
    return " ".join(f"{relation} {promises[relation]}" for relation in route)


def _lengths(rng: random.Random, options: DetourOptions) -> list[int]:
    count = rng.randint(*options.routes)
    possible = range(options.hops[0], options.hops[1] + 1)
    lengths = rng.sample(possible, min(count, len(possible)))
    return lengths + rng.choices(possible, k=count - len(lengths))


def _relations(rng: random.Random, lengths: list[int], unseen: bool) -> list[list[str]]:
    """Routes without a relation in common; drawn again where the last relations left cannot be put together."""
    while True:
        left = set(RELATIONS)
        routes = [_route(rng, length, unseen, left) for length in lengths]
        if all(map(len, routes)):
            return routes


def _route(rng: random.Random, length: int, unseen: bool, left: set[str]) -> list[str]:
    """A route of relations that are taken from `left`; empty when there is none."""
    unseen_at = rng.randrange(1, length) if unseen else 0
    route: list[str] = []
    for hop in range(length):
        fits = [r for r in RELATIONS if r in left]
        if route:
            fits = [r for r in fits if ((route[-1], r) in unseen_pairs()) == (hop == unseen_at)]
        if not fits:
            return []
        route.append(rng.choice(fits))
        left.remove(route[-1])
    return route


def _breaks(rng: random.Random, lengths: list[int], options: DetourOptions) -> dict[int, Break]:
    """The broken routes by number."""
    if rng.random() >= options.broken:
        return {}
    order = _oracle_order(lengths) if options.broken_first else rng.sample(range(len(lengths)), len(lengths))
    return {
        number: Break(rng.randint(1, lengths[number]), rng.random() < options.traps)
        for number in order[: options.failures]
    }


def _astray(rng: random.Random, promised: list[str], type_of: dict[str, str], never: set[str]) -> list[str]:
    """What the hops of a route give from a trap on: first another type than promised, then what is promised."""
    return [
        rng.choice([name for name, t in type_of.items() if (t == promise) == (hop > 0) and name not in never])
        for hop, promise in enumerate(promised)
    ]


def _contradiction(relation: str, output: str) -> dict[str, Any]:
    return {"name": TOOL, "arguments": {"relation": relation}, "output": output}


def _oracle_order(lengths: list[int]) -> list[int]:
    """Numbers of the routes, the shortest first."""
    return sorted(range(len(lengths)), key=lengths.__getitem__)


def _oracle_calls(lengths: list[int], breaks: dict[int, Break]) -> int:
    calls = 0
    for number in _oracle_order(lengths):
        if number not in breaks:
            return calls + lengths[number]
        calls += breaks[number].depth
    raise AssertionError("no route is sound")
