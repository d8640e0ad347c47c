"""Calls of `sample` and the queue they wait in."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random

from ...engine import Sample, SamplingParams


@dataclass(slots=True, eq=False)
class Request:
    """One call of `sample`."""

    prompt: list[int]
    params: SamplingParams
    session: str | None
    random: Random
    budget: int
    """Most tokens to sample: `max_tokens`, or what the context limit leaves."""
    done: asyncio.Future[Sample]
    """Cancelled when its caller is."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class RequestQueue:
    """First come, first served, but sessions that still hold a slot go before those that hold none.

    Strictly in order, with more sessions than slots, each turn would evict a session that waits behind it, and every
    prompt would be read from its start.
    """

    def __init__(self) -> None:
        self._returning: deque[Request] = deque()
        self._new: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._returning) + len(self._new)

    def put(self, request: Request, *, returning: bool) -> None:
        """Append a request; `returning` says that its session holds a slot."""
        (self._returning if returning else self._new).append(request)

    def take(self, count: int) -> list[Request]:
        """Remove up to `count` requests that are still wanted.

        Of equal standing they come by length: prompts are read together, padded to the longest of their neighbours.
        """
        taken: list[Request] = []
        for waiting in (self._returning, self._new):
            group: list[Request] = []
            while waiting and len(taken) + len(group) < count:
                request = waiting.popleft()
                if not request.done.done():
                    group.append(request)
            taken += sorted(group, key=lambda request: len(request.prompt))
        return taken

    def clear(self) -> list[Request]:
        """Remove all requests."""
        removed = [*self._returning, *self._new]
        self._returning.clear()
        self._new.clear()
        return removed
