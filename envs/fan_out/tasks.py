"""Tasks of the FanOut family: independent chains of look-ups, one long chain, and mixtures."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..tasks import GeneratedTasks, Split, Task
from ..tasks.splits import SPLIT_SIZE
from .ways import Then, acts_of, cheapest, critical_tokens
from .world import World

VERSION = "1"
KINDS = ("fan", "chain", "mix")
MAX_ENTITIES, MAX_RELATIONS, MAX_WIDTH, MAX_LENGTH = 48, 12, 8, 8


class FanOutTasks(GeneratedTasks):
    """What the relations of a hidden world lead to; difficulty is the number of look-ups that it takes.

    `fan E3 R1 R2 ; E8 R1 R4`: two chains that do not depend on each other; the answer is where each ends, in order.
    `chain E3 R1 R2 R5`: one chain, of which no step can be taken before the last one. `mix E3 R1 R2 ; E8 R1 R4 ; then
    2 R5`: as a fan, then R5 from where the second chain ended; the answer is the ends of the chains and what R5 led to.
    Every task has a world of its own, which the prompt does not show.

    Args:
        split: Seed range of the tasks.
        kinds: Which of `fan`, `chain` and `mix`, all equally likely.
        widths: Smallest and largest number of chains of a fan or mixture.
        hops: Smallest and largest number of look-ups of each of their chains.
        lengths: Smallest and largest number of look-ups of a `chain`.
        entities: Entities of a world, 2 to 48.
        relations: Relations of a world, 1 to 12.
        size: How many tasks.
    """

    def __init__(
        self,
        split: Split | str = Split.TRAIN,
        kinds: Sequence[str] = KINDS,
        widths: tuple[int, int] = (1, 4),
        hops: tuple[int, int] = (3, 3),
        lengths: tuple[int, int] = (1, 4),
        entities: int = 24,
        relations: int = 8,
        size: int = SPLIT_SIZE,
    ) -> None:
        if not kinds or len({*kinds}) < len(kinds) or not {*kinds} <= {*KINDS}:
            raise ValueError(f"kinds must be one or more of {', '.join(KINDS)}, found {', '.join(kinds) or 'none'}")
        _check_range("widths", widths, MAX_WIDTH)
        _check_range("hops", hops, MAX_LENGTH)
        _check_range("lengths", lengths, MAX_LENGTH)
        _check_range("entities", (2, entities), MAX_ENTITIES)
        _check_range("relations", (1, relations), MAX_RELATIONS)
        largest = max(widths[1] * hops[1] + 1, lengths[1])
        if entities * relations < 2 * largest:
            raise ValueError(
                f"a task of {largest} look-ups needs a world of at least {2 * largest} (entities times relations), "
                f"found {entities} times {relations}"
            )
        self._kinds, self._widths, self._hops, self._lengths = tuple(kinds), widths, hops, lengths
        self._entities, self._relations = entities, relations
        shape = f"{''.join(kind[0] for kind in kinds)}{_span(widths)}w{_span(hops)}h{_span(lengths)}l"
        self._prefix = f"fan-out{VERSION}-{Split(split)}-{shape}{entities}e{relations}r"
        super().__init__(self._make_task, split, size)

    def _make_task(self, rng: random.Random, item: int) -> Task:
        kind = rng.choice(self._kinds)
        world = World(item, self._entities, self._relations)
        low, high = self._lengths if kind == "chain" else self._hops
        width = 1 if kind == "chain" else rng.randint(*self._widths)
        made: set[tuple[str, str]] = set()
        parts = [_walk(rng, world, rng.choice(world.entities), rng.randint(low, high), made) for _ in range(width)]
        results = [world.follow(part)[-1] for part in parts]
        then: Then | None = None
        if kind == "mix":
            index = rng.randint(1, width)
            then = index, _walk(rng, world, results[index - 1], 1, made)[1]
        prompt = f"{kind} {' ; '.join(' '.join(part) for part in parts)}"
        if then is not None:
            results.append(world.look_up(results[then[0] - 1], then[1]))
            prompt += f" ; then {then[0]} {then[1]}"
        acts = acts_of(cheapest(parts, then))
        return Task(
            id=f"{self._prefix}-{item}",
            prompt=prompt,
            answer=" ".join(results),
            difficulty=float(sum(len(part) - 1 for part in parts) + (then is not None)),
            metadata={
                "world": {"seed": item, "entities": self._entities, "relations": self._relations},
                "parts": parts,
                "then": None if then is None else list(then),
                "structure": _structure(width, then),
                "oracle_width": max(len(act.calls) for act in acts),
                "oracle_critical_tokens": critical_tokens(acts),
            },
        )


def _walk(rng: random.Random, world: World, entity: str, hops: int, made: set[tuple[str, str]]) -> list[str]:
    """A chain from `entity` of look-ups that are not yet `made`: whoever repeats a call does so needlessly."""
    chain = [entity]
    for _ in range(hops):
        # There are at least twice as many look-ups as a task takes, but perhaps not from this entity.
        fresh = [relation for relation in world.relations if (entity, relation) not in made]
        relation = rng.choice(fresh or world.relations)
        made.add((entity, relation))
        chain.append(relation)
        entity = world.look_up(entity, relation)
    return chain


def _structure(width: int, then: Then | None) -> str:
    """Whether the parts of the task wait for each other."""
    if width == 1:
        return "chained"
    return "independent" if then is None else "mixed"


def _check_range(name: str, bounds: tuple[int, int], largest: int) -> None:
    low, high = bounds
    if not 1 <= low <= high <= largest:
        raise ValueError(f"{name} must be within 1 to {largest}, the smaller number first, found {low} to {high}")


def _span(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]}to{bounds[1]}"
