"""The world that one task is about: entities, and relations that lead from each of them to another."""

from __future__ import annotations

import random
from collections.abc import Sequence

Chain = Sequence[str]
"""An entity and the relations to follow from it, such as `["E3", "R1", "R2"]`."""


class World:
    """Relations `R0`, `R1`, ... are random permutations of the entities `E0`, `E1`, ...

    Args:
        seed: Everything follows from it; no two tasks share it, so that nothing of a world can be memorised.
        entities: How many entities.
        relations: How many relations.
    """

    def __init__(self, seed: int, entities: int, relations: int) -> None:
        self._seed = seed
        self.entities = [f"E{n}" for n in range(entities)]
        self.relations = [f"R{n}" for n in range(relations)]
        self._images: dict[str, dict[str, str]] = {}

    def look_up(self, entity: str, relation: str) -> str:
        """The entity that `relation` leads to.

        Raises:
            KeyError: there is no such entity or relation.
        """
        if relation not in self._images:
            if relation not in self.relations:
                raise KeyError(relation)
            images = list(self.entities)
            random.Random(f"{self._seed}/{relation}").shuffle(images)
            self._images[relation] = dict(zip(self.entities, images, strict=True))
        return self._images[relation][entity]

    def follow(self, chain: Chain) -> list[str]:
        """The entities that the chain leads through, its first one not included.

        Raises:
            KeyError: the chain names something that is not there.
        """
        path = [chain[0]]
        for relation in chain[1:]:
            path.append(self.look_up(path[-1], relation))
        return path[1:]
