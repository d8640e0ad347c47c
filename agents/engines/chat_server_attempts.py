"""The single attempts at asking a chat server: how many at once, how often, how long, and what counts as an answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

try:
    import httpx2
    import openai as openai
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"chat servers need {missing.name}, which is not installed: pip install 'forethought[server]'",
        name=missing.name,
    ) from missing

EXCERPT = 300
"""Characters of what a server said that a message shows."""


@dataclass(slots=True)
class ServerUsage:
    """What a `ChatServer` was used for so far, over all callers."""

    requests: int = 0
    """Sent, the repeated ones included."""
    answers: int = 0
    refusals: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    """Answers for which the server gave no counts: a token for every four bytes was assumed."""
    cost: float = 0.0


class Attempts(openai.DefaultAsyncHttpxClient):
    """Sends each attempt of a request when there is room for it, and gives up on it when its time is over."""

    def __init__(self, usage: ServerUsage, timeout_s: float, concurrency: int, per_minute: float | None) -> None:
        super().__init__(timeout=timeout_s)
        self._usage, self._timeout_s = usage, timeout_s
        self._room = asyncio.Semaphore(concurrency)
        self._requests = Pace(per_minute)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The server's answer, whole.

        Raises:
            httpx2.RequestError: it gave none in time, or it is no answer: worth another attempt.
        """
        async with self._room:
            await self._requests.wait(1)
            self._usage.requests += 1
            try:
                # The client's own limit is one on silence: a server that sends a byte now and then would pass it.
                async with asyncio.timeout(self._timeout_s):
                    response = await super().send(request, **options)
            except TimeoutError:
                raise httpx2.ReadTimeout(f"no whole answer within {self._timeout_s:g} s", request=request) from None
        if response.is_success and not _has_choice(response):
            found = response.text[:EXCERPT]
            raise httpx2.RemoteProtocolError(f'expected JSON with "choices", found {found!r}', request=request)
        return response


class Pace:
    """Spaces what is done so that no minute has more of it than allowed (but for the one that crosses the limit)."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 0.0 if per_minute is None else 60 / per_minute
        self._next = 0.0

    async def wait(self, amount: float) -> None:
        """Wait until it is the turn of so much."""
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + amount * self._seconds
        if start > now:
            await asyncio.sleep(start - now)

    def correct(self, amount: float) -> None:
        """What was waited for was more by this amount."""
        self._next += amount * self._seconds


def _has_choice(response: httpx2.Response) -> bool:
    try:
        match response.json():
            case {"choices": [{}, *_]}:
                return True
    except (ValueError, RecursionError):
        pass
    return False
