"""Which slot of the key-value cache belongs to whom.

Slots in use are always the first ones: `0 .. active-1`. A forward pass then reads plain slices of the cache and never
gathers rows. The price is that a slot changes places with another when a request starts or ends; the decoder moves the
cached tensors (`Swap`), which costs one copy of one row, not one per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Swap = Callable[[int, int, int], None]
"""`swap(a, b, length)`: exchange what slots `a` and `b` hold at positions `0 .. length-1`."""


@dataclass(slots=True, eq=False)
class Slot:
    """One row of the cache."""

    index: int
    context: list[int] = field(default_factory=list)
    """Token ids of the slot's context; the state of the first `cached` of them is in the cache."""
    cached: int = 0
    session: str | None = None
    last_used: int = 0
    """Value of the table's clock when the slot became idle."""


class SlotTable:
    """Hands out slots, remembers sessions, and evicts the session that was idle longest."""

    def __init__(self, count: int, swap: Swap) -> None:
        self.slots = [Slot(index) for index in range(count)]
        self.active = 0
        """Slots in use: the first `active` of `slots`."""
        self.evictions = 0
        self._swap = swap
        self._sessions: dict[str, Slot] = {}
        self._clock = 0

    def holds(self, session: str | None) -> bool:
        """Whether a slot has the state of `session`."""
        return session in self._sessions

    def acquire(self, prompt: Sequence[int], session: str | None) -> Slot:
        """Take an idle slot for `prompt` and put it behind the active ones; there must be one.

        The slot keeps the longest prefix of `prompt` that it already holds for `session`, but never the last token of
        the prompt: its logits are what the first sampled token is drawn from.
        """
        slot = self._sessions.get(session) if session is not None else None
        if slot is not None and slot.index < self.active:
            # The session is sampling right now: this is a second branch of it, which has nothing to reuse.
            slot, session = None, None
        if slot is None:
            slot = min(self.slots[self.active :], key=lambda idle: (idle.session is not None, idle.last_used))
            if slot.session is not None:
                del self._sessions[slot.session]
                self.evictions += 1
            slot.session, slot.cached, slot.context = session, 0, []
            if session is not None:
                self._sessions[session] = slot
        slot.cached = min(common_prefix(slot.context, prompt), slot.cached, len(prompt) - 1)
        slot.context = list(prompt)
        self._exchange(slot.index, self.active)
        self.active += 1
        return slot

    def finish(self, slot: Slot) -> None:
        """Return an active slot. A session's slot keeps its state until it is needed elsewhere."""
        self.active -= 1
        self._clock += 1
        slot.last_used = self._clock
        if slot.session is None:
            slot.cached = 0
        self._exchange(slot.index, self.active)

    def release(self, session: str) -> None:
        """Forget a session; what it is sampling now goes on."""
        slot = self._sessions.pop(session, None)
        if slot is not None:
            slot.session = None
            if slot.index >= self.active:
                slot.cached = 0

    def forget(self) -> None:
        """Drop every cached prefix: the weights that made them are gone."""
        for slot in self.slots:
            slot.cached = 0

    def clear(self) -> None:
        """Make every slot free and every session unknown."""
        self.active = 0
        self._sessions.clear()
        for slot in self.slots:
            slot.session, slot.cached, slot.context = None, 0, []

    def _exchange(self, a: int, b: int) -> None:
        if a == b:
            return
        first, second = self.slots[a], self.slots[b]
        length = max(first.cached, second.cached)
        if length:
            self._swap(a, b, length)
        self.slots[a], self.slots[b] = second, first
        first.index, second.index = b, a


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of equal leading elements."""
    length = min(len(a), len(b))
    if a[:length] == b[:length]:
        return length
    return next(i for i in range(length) if a[i] != b[i])
