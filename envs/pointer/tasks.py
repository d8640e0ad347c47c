"""Tasks of the Pointer family: a random permutation of symbols, a start and a number of hops."""

from __future__ import annotations

import random
import string

from ..tasks import GeneratedTasks, Split, Task
from ..tasks.splits import SPLIT_SIZE

VERSION = "1"


class PointerTasks(GeneratedTasks):
    """`table A K B C ... start D hops 7`: the answer is the symbol reached from D after 7 look-ups in the table.

    The table is a new random permutation in every task, so nothing can be memorised; difficulty is the number of hops.

    Args:
        split: Seed range of the tasks.
        hops: Smallest and largest number of hops, both possible and all equally likely.
        symbols: Size of the permutation, 2 to 26.
        size: How many tasks.
    """

    def __init__(
        self,
        split: Split | str = Split.TRAIN,
        hops: tuple[int, int] = (0, 8),
        symbols: int = 12,
        size: int = SPLIT_SIZE,
    ) -> None:
        low, high = hops
        if not 0 <= low <= high:
            raise ValueError(f"hops must be (smallest, largest) with 0 <= smallest <= largest, found {hops}")
        if not 2 <= symbols <= 26:
            raise ValueError(f"symbols must be 2 to 26, found {symbols}")
        self._low, self._high = low, high
        self._symbols = string.ascii_uppercase[:symbols]
        self._split = Split(split)
        super().__init__(self._make_task, split, size)

    def _make_task(self, rng: random.Random, item: int) -> Task:
        images = rng.sample(self._symbols, len(self._symbols))
        table = dict(zip(self._symbols, images, strict=True))
        start = rng.choice(self._symbols)
        hops = rng.randint(self._low, self._high)
        path = [start]
        for _ in range(hops):
            path.append(table[path[-1]])
        cells = " ".join(f"{a} {b}" for a, b in table.items())
        return Task(
            id=f"pointer{VERSION}-{self._split}-{len(self._symbols)}s{self._low}to{self._high}-{item}",
            prompt=f"table {cells} start {start} hops {hops}",
            answer=path[-1],
            difficulty=float(hops),
            metadata={"path": path},
        )
