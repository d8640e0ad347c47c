"""Tasks of the Stream family: a query, and a stream of facts that holds its answer among distractors."""

from __future__ import annotations

import random
from itertools import pairwise, permutations
from typing import Literal, get_args

from ..tasks import GeneratedTasks, Split, Task
from ..tasks.splits import SPLIT_SIZE
from .facts import Fact, Slot, write_facts

VERSION = "1"
When = Literal["start", "end"]
Pairs = Literal["train", "held_out", "all"]
CANDIDATES = 2
"""Queries that the prompt names when the last chunk brings the one that counts."""
_HELD_OUT_SHARE = 0.2


class StreamTasks(GeneratedTasks):
    """Chunks of facts such as `E5 R2 E31 ; E7 R3 E2 ;`, and the query `query E5 R2 R7`: where do the relations lead?

    The facts of the chain stand in any order anywhere in the stream. Some facts are overwritten later: the newest
    counts. The fact that holds the answer never comes with the last chunk, so that the answer cannot be read off the
    end of the stream. Of the distractors, `shared` have a relation of the query, however long the stream is: who keeps
    just the facts that can matter, and replaces those that are overwritten, keeps at most `hops + shared` of them
    (`2 * hops + shared` with `query="end"`). Entities are drawn anew for every task, so nothing can be memorised.
    Difficulty is the number of chunks.

    Args:
        split: Seed range of the tasks.
        chunks: Smallest and largest number of chunks, both possible and all equally likely.
        facts: Facts in a chunk.
        entities: Number of entities.
        relations: Number of relations.
        hops: Smallest and largest number of relations in a query.
        query: `start`: the prompt gives the query. `end`: it gives two, and the last chunk says which one counts.
        overwritten: Share of the entity-relation pairs that get a new value later. Where a stream has more facts than
            there are such pairs, distractors are overwritten more often.
        shared: Distractors that have a relation of the query.
        pairs: Which ordered pairs of relations follow each other in a query. A fifth of them is held out: `train` has
            none of those, `held_out` at least one, `all` makes no difference.
        size: How many tasks.

    Raises:
        ValueError: such tasks cannot be made.
    """

    def __init__(
        self,
        split: Split | str = Split.TRAIN,
        chunks: tuple[int, int] = (3, 6),
        facts: int = 5,
        entities: int = 24,
        relations: int = 9,
        hops: tuple[int, int] = (1, 3),
        query: When = "start",
        overwritten: float = 0.15,
        shared: int = 3,
        pairs: Pairs = "train",
        size: int = SPLIT_SIZE,
    ) -> None:
        candidates = CANDIDATES if query == "end" else 1
        if not 2 <= chunks[0] <= chunks[1]:
            raise ValueError(f"chunks must be (smallest, largest) with 2 <= smallest <= largest, found {chunks}")
        if not 1 <= hops[0] <= hops[1] or candidates * hops[1] >= relations:
            raise ValueError(
                f"hops must be (smallest, largest) with 1 <= smallest <= largest, and leave distractors some of the "
                f"{relations} relations, found {hops}"
            )
        if query not in get_args(When) or pairs not in get_args(Pairs):
            raise ValueError(
                f"query is one of {get_args(When)}, pairs of {get_args(Pairs)}; found {query!r}, {pairs!r}"
            )
        if pairs == "held_out" and hops[0] < 2:
            raise ValueError(
                f"a query of 1 hop has no pair of relations to hold out: hops must be 2 or more, found {hops}"
            )
        if not 0 <= overwritten <= 1:
            raise ValueError(f"overwritten is a share, 0 to 1, found {overwritten}")
        most = 2 * (candidates * hops[1] + shared)
        if shared < 0 or chunks[0] * facts < most:
            raise ValueError(
                f"{chunks[0]} chunks of {facts} facts are too few for the {most} that a query of {hops[1]} hops with "
                f"{shared} shared distractors may need"
            )
        needed = candidates * (hops[1] + 1) + shared
        if entities < needed:
            raise ValueError(f"entities must be at least {needed}, found {entities}")
        self._chunks, self._facts, self._hops, self._query = chunks, facts, hops, query
        self._candidates, self._overwritten, self._shared, self._pairs = candidates, overwritten, shared, pairs
        self._entities = [f"E{n}" for n in range(entities)]
        self._relations = [f"R{n}" for n in range(relations)]
        self._held_out = held_out_pairs(relations)
        self._prefix = (
            f"stream{VERSION}-{Split(split)}-{chunks[0]}to{chunks[1]}x{facts}-{entities}e{relations}r{shared}s-"
            f"{hops[0]}to{hops[1]}{query}-{overwritten:g}-{pairs}"
        )
        super().__init__(self._make_task, split, size)

    def _make_task(self, rng: random.Random, item: int) -> Task:
        chunks = rng.randint(*self._chunks)
        queries, values = self._draw_queries(rng)
        counts = rng.randrange(len(queries))
        last = chunks * self._facts
        versions = self._overwrite(rng, values)
        versions |= self._draw_shared(rng, queries, versions)
        self._fill(rng, versions, {r for query in queries for r in query[1:]}, last)
        answers = [_walk(query, values)[-2:] for query in queries]
        protected = {(entity, query[-1]) for (entity, _), query in zip(answers, queries, strict=True)}
        order = _shuffle(rng, versions, protected, last - self._facts)
        parts = [write_facts(order[i : i + self._facts], " ;") for i in range(0, last, self._facts)]
        chosen = " ".join(["query", *queries[counts]])
        if self._query == "end":
            parts[-1] += f" {chosen}"
        path = _walk(queries[counts], values)
        return Task(
            id=f"{self._prefix}-{item}",
            prompt=chosen if self._query == "start" else f"query {' or '.join(' '.join(query) for query in queries)}",
            answer=path[-1],
            difficulty=float(chunks),
            metadata={"chunks": parts, "query": queries[counts], "queries": queries, "path": path},
        )

    def _draw_queries(self, rng: random.Random) -> tuple[list[list[str]], dict[Slot, str]]:
        """Queries over entities of their own, and what holds about them in the end."""
        queries: list[list[str]] = []
        values: dict[Slot, str] = {}
        unused = rng.sample(self._entities, len(self._entities))
        for _ in range(self._candidates):
            chain = self._draw_chain(rng)
            path = [unused.pop() for _ in range(len(chain) + 1)]
            values |= {(a, r): b for (a, b), r in zip(pairwise(path), chain, strict=True)}
            queries.append([path[0], *chain])
        return queries, values

    def _draw_chain(self, rng: random.Random) -> list[str]:
        """Relations that all differ, with or without held-out pairs."""
        hops = rng.randint(*self._hops)
        while True:
            chain = rng.sample(self._relations, hops)
            held_out = any(pair in self._held_out for pair in pairwise(chain))
            if self._pairs == "all" or held_out == (self._pairs == "held_out"):
                return chain

    def _overwrite(self, rng: random.Random, values: dict[Slot, str]) -> dict[Slot, list[str]]:
        """The values that each slot has one after the other, the last one given."""
        return {
            slot: [*([self._other(rng, slot[0], value)] if rng.random() < self._overwritten else []), value]
            for slot, value in values.items()
        }

    def _draw_shared(
        self, rng: random.Random, queries: list[list[str]], versions: dict[Slot, list[str]]
    ) -> dict[Slot, list[str]]:
        """Distractors with the relations of the queries, first where an outdated value would lead on."""
        slots: list[Slot] = []
        for query in queries:
            for relation, following in pairwise(query[1:]):
                slots += [(old[0], following) for (_, r), old in versions.items() if r == relation and len(old) > 1]
        relations = sorted({relation for query in queries for relation in query[1:]})
        chosen: dict[Slot, str] = {}
        while len(chosen) < self._shared:
            slot = slots.pop() if slots else (rng.choice(self._entities), rng.choice(relations))
            if slot not in versions and slot not in chosen:
                chosen[slot] = self._other(rng, slot[0])
        return self._overwrite(rng, chosen)

    def _fill(self, rng: random.Random, versions: dict[Slot, list[str]], used: set[str], total: int) -> None:
        """Add distractors without the relations of the queries until there are `total` facts."""
        missing = total - sum(map(len, versions.values()))
        free = [(entity, relation) for entity in self._entities for relation in self._relations if relation not in used]
        rng.shuffle(free)
        filled: list[Slot] = []
        while missing > 0:
            if free:
                slot = free.pop()
                versions[slot] = [self._other(rng, slot[0])]
                filled.append(slot)
                missing -= 1
            if missing > 0 and (not free or rng.random() < self._overwritten):
                slot = filled[-1] if free else rng.choice(filled)
                versions[slot].append(self._other(rng, slot[0], versions[slot][-1]))
                missing -= 1

    def _other(self, rng: random.Random, *entities: str) -> str:
        """An entity other than these."""
        while (entity := rng.choice(self._entities)) in entities:
            pass
        return entity


def held_out_pairs(relations: int) -> set[tuple[str, str]]:
    """The ordered pairs of relations that never follow each other in a training query: the same ones always."""
    every = sorted(permutations([f"R{n}" for n in range(relations)], 2))
    return set(random.Random("held-out pairs").sample(every, round(_HELD_OUT_SHARE * len(every))))


def _walk(query: list[str], values: dict[Slot, str]) -> list[str]:
    path = [query[0]]
    for relation in query[1:]:
        path.append(values[path[-1], relation])
    return path


def _shuffle(rng: random.Random, versions: dict[Slot, list[str]], protected: set[Slot], end: int) -> list[Fact]:
    """All facts in random order, those of a slot in theirs, those of the protected slots before position `end`."""
    slots = [slot for slot, values in versions.items() for _ in values]
    while True:
        rng.shuffle(slots)
        if protected.isdisjoint(slots[end:]):
            break
    left = {slot: iter(values) for slot, values in versions.items()}
    return [(*slot, next(left[slot])) for slot in slots]
