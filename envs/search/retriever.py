"""What answers a search: the `Retriever` protocol that the search environment is written against."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .passages import Passage


class Hit(NamedTuple):
    """One result of a search."""

    passage_id: str
    title: str
    text: str
    """A snippet of the passage around the query's words; the whole passage if it is short."""
    score: float


class Retriever(Protocol):
    """Searches a corpus and opens passages of it; safe to use from many tasks at once.

    The same call gives the same answer. Text of any kind is a valid query; nothing that a policy can type raises.
    `InfrastructureFault` is raised when the index or server behind it cannot answer.
    """

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` (1 or more) passages for `query`, best first, fewer if fewer match."""
        ...

    async def open(self, id_or_title: str) -> Passage | None:
        """The passage with this id, else the first one with this title, else None."""
        ...
