"""One event loop in a daemon thread, for synchronous callers of asynchronous tools."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_THREAD = "forethought-loop"
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end and return its result, from any thread, whether or not a loop runs in it.

    Raises:
        RuntimeError: called by what itself runs on this loop (a tool that steps an environment), which would wait for
            itself for ever.
    """
    if threading.current_thread().name == _THREAD:
        coroutine.close()
        raise RuntimeError("a tool on the background loop cannot wait for another one: use `await env.step_async(...)`")
    future = asyncio.run_coroutine_threadsafe(coroutine, _running())
    try:
        return future.result()
    finally:
        future.cancel()  # on Ctrl-C; otherwise it is done


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, daemon=True, name=_THREAD).start()
        return _loop


_inherited: list[asyncio.AbstractEventLoop | None] = []
"""Loops of parent processes: never closed here, because parent and child share what they watch."""


def _forget() -> None:
    """In a forked child the loop's thread is gone, and the lock may be held for ever."""
    global _lock, _loop
    _inherited.append(_loop)
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
