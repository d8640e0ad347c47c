"""The sessions that a server holds: whose they are, how many there may be, and when nobody wants them any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ..sandbox import Limits, Sandbox, SandboxUsageError, Session

T = TypeVar("T")
MAX_POOLS = 8
"""Different limits that are served at the same time: each has its own sandbox with its own spare sessions."""


class Refused(Exception):
    """The server does not do it; `kind` is one of `wire.STATUS_OF_KIND`."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(slots=True, eq=False)
class Pool:
    """The sandbox of one set of limits."""

    sandbox: Sandbox
    sessions: int = 0
    used: float = 0.0


class Held:
    """A session of a client, which is asked for one thing at a time."""

    def __init__(self, owner: str, pool: Pool) -> None:
        self.owner, self.pool = owner, pool
        self.opening: asyncio.Task[Session] | None = None
        self._attached = 0
        self._since = time.monotonic()
        self._key = -1
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While a client waits here the session is not idle."""
        self._attached += 1
        try:
            yield
        finally:
            self._attached -= 1
            self._since = time.monotonic()

    def idle_seconds(self) -> float:
        """Since when no client waits for anything, also while what one asked for still runs."""
        return 0.0 if self._attached else time.monotonic() - self._since

    async def session(self) -> Session:
        """The session, once it is open."""
        assert self.opening is not None
        return await asyncio.shield(self.opening)

    async def once(self, key: int, work: Callable[[Session], Awaitable[T]]) -> T:
        """Carry out the operation of this number, or give the answer that it had.

        It goes on when the client that waits for it is cut off, so that the client can ask again; it is cancelled when
        a later one comes, since a client that still wanted it would not have gone on.
        """
        session = await self.session()
        if key < self._key:
            raise Refused("superseded", f"operation {key} comes after operation {self._key}: it is not carried out")
        if key > self._key:
            before, self._key = self._task, key
            self._task = _quiet(self._next(before, work, session))
        assert self._task is not None
        answer: T = await asyncio.shield(self._task)
        return answer

    async def _next(
        self, before: asyncio.Task[Any] | None, work: Callable[[Session], Awaitable[T]], session: Session
    ) -> T:
        if before is not None and not before.done():
            before.cancel()
            await asyncio.wait([before])
        return await work(session)

    async def close(self) -> None:
        """Destroy the session, in the middle of whatever it does."""
        if self.opening is None:
            return
        with contextlib.suppress(Exception):
            session = await asyncio.shield(self.opening)
            await session.close()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=1.0)  # It says how it ended.
            self._task.cancel()


class Registry:
    """All sessions of a server.

    Args:
        make: The sandbox behind, for given limits.
        ceiling: What a client may ask for at most.
        max_sessions: Sessions at the same time.
        max_sessions_per_token: Of one owner.
        idle_seconds: After which a session that no client waits for is closed.
    """

    def __init__(
        self,
        make: Callable[[Limits], Sandbox],
        ceiling: Limits,
        *,
        max_sessions: int,
        max_sessions_per_token: int,
        idle_seconds: float,
    ) -> None:
        self.ceiling, self.idle_seconds = ceiling, idle_seconds
        self.closing = False
        self._make, self._most, self._most_each = make, max_sessions, max_sessions_per_token
        self._pools: dict[Limits, Pool] = {}
        self._held: dict[str, Held] = {}

    async def prepare(self, limits: Limits) -> Sandbox:
        """The started sandbox of these limits.

        Raises:
            SandboxUsageError: they are more than this server gives.
            SandboxUnavailable: the sandbox cannot work here.
            Refused: too many different limits, or the server is closing.
        """
        pool = await self._pool(limits)
        return pool.sandbox

    async def _pool(self, limits: Limits) -> Pool:
        if self.closing:
            raise Refused("unavailable", "the server is closing")
        names = [item.name for item in fields(Limits)]
        over = [name for name in names if getattr(limits, name) > getattr(self.ceiling, name)]
        if over:
            most = ", ".join(f"{name}={getattr(self.ceiling, name)}" for name in over)
            raise SandboxUsageError(f"the limits are above what the server gives; at most {most}")
        pool = self._pools.get(limits)
        if pool is None:
            await self._make_room()
            pool = self._pools.setdefault(limits, Pool(self._make(limits)))
        pool.sessions += 1  # Nobody makes room out of it meanwhile.
        try:
            await pool.sandbox.start()
        except BaseException:
            if pool.sessions == 1 and self._pools.pop(limits, None) is not None:
                await pool.sandbox.close()
            raise
        finally:
            pool.sessions -= 1
            pool.used = time.monotonic()
        return pool

    async def _make_room(self) -> None:
        if len(self._pools) < MAX_POOLS:
            return
        free = [limits for limits, pool in self._pools.items() if not pool.sessions]
        if not free:
            raise Refused("busy", f"{MAX_POOLS} different limits are in use at the same time")
        oldest = min(free, key=lambda limits: self._pools[limits].used)
        await self._pools.pop(oldest).sandbox.close()

    async def open(self, identifier: str, owner: str, limits: Limits) -> None:
        """Open a session under the name that its client chose; asked again, it is the same session.

        Raises: as `prepare`; `Refused` also where the owner, or everybody together, has too many.
        """
        held = self._held.get(identifier)
        if held is None:
            pool = await self._pool(limits)
            held = self._held.get(identifier) or self._add(identifier, owner, pool)
        if held.owner != owner:
            raise Refused("bad_request", "there is such a session already: choose a random name")
        try:
            with held.attached():
                await held.session()
        except Exception:
            await self.close(identifier, owner)
            raise

    def _add(self, identifier: str, owner: str, pool: Pool) -> Held:
        if self.closing:
            raise Refused("unavailable", "the server is closing")
        if len(self._held) >= self._most:
            raise Refused("busy", f"the server has its {self._most} sessions open")
        if sum(held.owner == owner for held in self._held.values()) >= self._most_each:
            raise Refused("busy", f"this token has its {self._most_each} sessions open")
        held = self._held[identifier] = Held(owner, pool)
        pool.sessions += 1
        held.opening = _quiet(pool.sandbox.open())
        return held

    def get(self, identifier: str, owner: str) -> Held:
        """A session of this owner.

        Raises:
            Refused: there is none, or it is somebody else's.
        """
        held = self._held.get(identifier)
        if held is None or held.owner != owner:
            raise Refused(
                "unknown_session",
                f"there is no such session: closed, idle for {self.idle_seconds:g} s, or of a server before this one",
            )
        return held

    async def close(self, identifier: str, owner: str) -> None:
        """Close a session; nothing happens where there is none."""
        held = self._held.get(identifier)
        if held is not None and held.owner == owner:
            del self._held[identifier]
            try:
                await held.close()
            finally:
                held.pool.sessions -= 1

    async def expire(self) -> None:
        """Close what is idle, for ever; cancel it to end it."""
        while True:
            await asyncio.sleep(min(self.idle_seconds / 4, 5.0))
            idle = [(name, held) for name, held in self._held.items() if held.idle_seconds() > self.idle_seconds]
            await asyncio.gather(*(self.close(name, held.owner) for name, held in idle), return_exceptions=True)

    async def close_all(self) -> None:
        """Close every session and sandbox."""
        self.closing = True
        names = [(name, held.owner) for name, held in self._held.items()]
        await asyncio.gather(*(self.close(*name) for name in names), return_exceptions=True)
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.sandbox.close() for pool in pools.values()), return_exceptions=True)


def _quiet(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that whoever is still there waits for: nobody has to."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
