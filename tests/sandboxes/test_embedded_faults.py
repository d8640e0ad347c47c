"""Whatever goes wrong at whatever point of a session's life, its descriptors, groups and folders are given back."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import gc
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from forethought.sandboxes import EmbeddedSandbox, SandboxUnavailable, SandboxUsageError

from .conftest import Tier, started
from .test_embedded_leaks import PATIENCE, descendants, folders, groups_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the embedded sandbox needs Linux")
TIERS: tuple[Tier, ...] = ("namespaces", "no-namespaces")
REFUSALS = (SandboxUnavailable, SandboxUsageError)
MOST = 200
"""Calls or awaits in one session's life, at the most."""
FAILING: tuple[tuple[Any, str], ...] = (
    (os, "pipe"),
    (os, "open"),
    (os, "mkdir"),
    (os, "set_blocking"),
    (os, "memfd_create"),
    (socket, "socketpair"),
    (select, "epoll"),
    (tempfile, "mkdtemp"),
)
"""What a host calls to make a session, and what an exhausted or vanishing resource makes fail."""


class Fault:
    """Raises at one call of those in `FAILING`, counted from when it is entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self._patch, self._left = monkeypatch, number
        self._thread = threading.get_ident()
        self.met = False

    def __enter__(self) -> Fault:
        for module, name in FAILING:
            self._patch.setattr(module, name, self._wrapped(getattr(module, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            # Giving back is not made to fail: descriptors are closed before any is needed to remove a folder.
            gives_back = sys._getframe(1).f_code.co_filename.endswith("erase.py")
            if threading.get_ident() == self._thread and not gives_back:
                self._left -= 1
                if self._left == 0:
                    self.met = True
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return function(*arguments, **options)

        return call


class AtAwait:
    """Awaits something, and does something else while it is suspended for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], number: int, act: Callable[[], object]) -> None:
        self._work, self._left, self._act = work, number, act
        self.met = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._work.__await__()
        step: Callable[[], Any] = lambda: next(inner)  # noqa: E731
        while True:
            try:
                waited_for = step()
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                self.met = True
                self._act()
            try:
                yield waited_for
                step = lambda: next(inner)  # noqa: E731
            except BaseException as error:
                raised = error
                step = lambda: inner.throw(raised)  # noqa: B023, E731


def held() -> collections.Counter[str]:
    """What this process holds, by kind: descriptors as /proc/self/fd shows them, control groups, folders."""
    gc.collect()
    found: collections.Counter[str] = collections.Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/self/fd/{name}").partition(":[")[0]] += 1
    found["control groups"] = sum(entry.is_dir() for base in bases() for entry in os.scandir(base))
    found["folders"] = sum(len(os.listdir(f"{tempfile.gettempdir()}/{name}")) for name in folders())
    return found


def bases() -> Iterator[str]:
    mine = set(groups_of(os.getpid()))
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"{folder}/{name}" for name in names if name in mine)


@contextlib.asynccontextmanager
async def leaving_nothing(tier: Tier) -> AsyncIterator[tuple[EmbeddedSandbox, Callable[[str], Awaitable[None]]]]:
    """A sandbox, and what asserts that as much is held as before; closed, it has left nothing either."""
    groups, kept = groups_of(os.getpid()), folders()
    sandbox = await started(tier, spares=0)
    try:
        await live(sandbox)
        before = held()

        async def check(when: str) -> None:
            for _ in range(100):  # Until what was killed has ended.
                await (await sandbox.open()).close()
                more = held() - before
                if not more:
                    return
                await asyncio.sleep(0.02)
            pytest.fail(f"{when}: {dict(more)} left")

        yield sandbox, check
    finally:
        await sandbox.close()
    assert groups_of(os.getpid()) == groups and folders() == kept


async def live(sandbox: EmbeddedSandbox) -> None:
    """Everything that a session can do."""
    session = await sandbox.open()
    try:
        await session.run_cell("x = 1")
        await session.put_file("large", bytes(1 << 19))
        await session.run_program(["cat", "large"])
        await session.get_file("large", max_bytes=8 << 20)
        await session.list_files()
        await session.run_cell("while True:\n    pass", timeout=0.01)
        await session.reset()
        await session.run_cell("x = 1")
    finally:
        await session.close()


@pytest.mark.parametrize("tier", TIERS)
async def test_a_call_that_fails_leaves_nothing(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leaving_nothing(tier) as (sandbox, check):
        for number in range(1, MOST):
            with Fault(monkeypatch, number) as fault, contextlib.suppress(*REFUSALS, OSError):
                await live(sandbox)
            await check(f"call {number}")
            if not fault.met:
                break
        assert 10 < number < MOST - 1


async def test_a_template_that_dies_while_a_session_is_prepared_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor removes the control groups that the host is about to open: one is open, the next is gone."""
    async with leaving_nothing("namespaces") as (sandbox, check):
        template, really_open = sandbox._template, os.open
        assert template is not None
        if len(set(template.groups.bases.values())) < 2:
            pytest.skip("needs control groups in two hierarchies")
        victims = descendants(template.process.pid)

        def opened(path: Any, *arguments: Any, **options: Any) -> int:
            descriptor = really_open(path, *arguments, **options)
            if str(path).endswith("cgroup.procs") and victims:
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
                victims.clear()
                until = time.monotonic() + PATIENCE
                while any(base.exists() for base in template.groups.bases.values()) and time.monotonic() < until:
                    time.sleep(0.005)
            return descriptor

        monkeypatch.setattr(os, "open", opened)
        await (await sandbox.open()).close()
        assert not victims
        await check("afterwards")


@pytest.mark.parametrize("what", ["cancel", "kill the template", "close"])
@pytest.mark.parametrize("tier", TIERS)
async def test_a_session_that_ends_at_any_await_leaves_nothing(tier: Tier, what: str) -> None:
    async with leaving_nothing(tier) as (sandbox, check):

        def act() -> None:
            task = asyncio.current_task()
            assert task is not None and sandbox._template is not None
            if what == "cancel":
                task.cancel()
            elif what == "kill the template":
                sandbox._template.process.kill()
            else:
                closing.extend(asyncio.ensure_future(session.close()) for session in list(sandbox._sessions))

        for number in range(1, MOST):
            closing: list[Awaitable[None]] = []
            life = AtAwait(live(sandbox), number, act)
            with contextlib.suppress(*REFUSALS, asyncio.CancelledError):
                await life
            await asyncio.gather(*closing)
            await check(f"await {number}")
            if not life.met:
                break
        assert 10 < number < MOST - 1


@pytest.mark.parametrize("tier", TIERS)
async def test_a_sandbox_closed_at_any_await_leaves_nothing(tier: Tier) -> None:
    """Its start included; what then goes on in it is refused."""
    groups, kept, descriptors = groups_of(os.getpid()), folders(), len(os.listdir("/proc/self/fd"))
    for number in range(1, 8):
        sandbox = await started(tier, spares=2)
        closing: list[Awaitable[None]] = []
        life = AtAwait(live(sandbox), number, lambda: closing.append(asyncio.ensure_future(sandbox.close())))  # noqa: B023
        with contextlib.suppress(*REFUSALS):
            await life
        await asyncio.gather(*closing)
        await sandbox.close()
        assert (groups_of(os.getpid()), folders(), len(os.listdir("/proc/self/fd"))) == (groups, kept, descriptors)
        with pytest.raises(SandboxUsageError, match="closed"):
            await sandbox.open()


async def test_a_sandbox_closed_while_it_starts_leaves_nothing() -> None:
    await (await started("namespaces")).close()
    groups, descriptors = groups_of(os.getpid()), len(os.listdir("/proc/self/fd"))
    for cancel in (False, True):
        sandbox = EmbeddedSandbox(require="namespaces", spares=2)
        starting = asyncio.ensure_future(sandbox.start())
        await asyncio.sleep(0.01)
        if cancel:
            starting.cancel()
        await sandbox.close()
        await asyncio.gather(starting, return_exceptions=True)
        assert (groups_of(os.getpid()), len(os.listdir("/proc/self/fd"))) == (groups, descriptors)


async def test_a_close_that_is_cancelled_leaves_nothing() -> None:
    await (await started("namespaces")).close()
    groups, descriptors = groups_of(os.getpid()), len(os.listdir("/proc/self/fd"))
    for number in range(1, 8):
        sandbox = await started("namespaces", spares=2)
        sessions = [await sandbox.open() for _ in range(2)]
        assert all([(await session.run_cell("1")).value == "1" for session in sessions])
        task = asyncio.ensure_future(at_await(sandbox.close(), number))
        await asyncio.gather(task, return_exceptions=True)
        await sandbox.close()
        assert (groups_of(os.getpid()), len(os.listdir("/proc/self/fd"))) == (groups, descriptors), number


async def at_await(work: Coroutine[Any, Any, Any], number: int) -> None:
    """Is cancelled at its n-th await."""
    task = asyncio.current_task()
    assert task is not None
    await AtAwait(work, number, task.cancel)
