"""Facts as text: `E5 R2 E31` says that the relation R2 leads from the entity E5 to E31."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Slot = tuple[str, str]
"""An entity and a relation: what a fact is about."""
Fact = tuple[str, str, str]
"""An entity, a relation and the entity that it leads to."""

_FACT = re.compile(r"\b(E\d+)\s+(R\d+)\s+(E\d+)\b")


def read_facts(text: str) -> list[Fact]:
    """The facts that stand in a text, in its order."""
    found: list[Fact] = _FACT.findall(text)
    return found


def write_facts(facts: Iterable[Fact], end: str = "") -> str:
    """Facts as one text; `end` closes each of them."""
    return " ".join(" ".join(fact) + end for fact in facts)


def newest(facts: Iterable[Fact]) -> dict[Slot, str]:
    """What holds after these facts came in: of two facts about the same slot the later one."""
    return {(entity, relation): value for entity, relation, value in facts}


def follow(known: dict[Slot, str], query: Sequence[str]) -> list[str]:
    """The entities that a query (an entity, then relations) leads through, as far as they are known."""
    path = [query[0]]
    for relation in query[1:]:
        value = known.get((path[-1], relation))
        if value is None:
            break
        path.append(value)
    return path
