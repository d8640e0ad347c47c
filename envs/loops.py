"""Loops: the same call that gives the same answer again and again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from .tools import CallResult


class LoopDetector:
    """Tells when one call has given one answer too often in an episode; linear in what was written.

    Two calls are the same when tool and arguments are. A call whose answers differ (a clock, a file that was edited in
    between) is no loop.

    Args:
        limit: How many times the same call with the same answer make a loop; None for never.

    Raises:
        ValueError: `limit` is less than 2.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 2:
            raise ValueError(f"it takes at least 2 of the same call to make a loop, found {limit}")
        self._limit = limit
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def closes(self, results: Iterable[CallResult]) -> bool:
        """Take the calls of the next turn; whether one of them closes a loop."""
        if self._limit is None:
            return False
        closed = False
        for result in results:
            key = (*call_key(result), result.output)
            self._seen[key] += 1
            closed = closed or self._seen[key] >= self._limit
        return closed


def call_key(result: CallResult) -> tuple[str, str]:
    """What makes two calls the same: the tool and the arguments, in whatever order these were given."""
    return result.name, json.dumps(result.arguments, sort_keys=True)
