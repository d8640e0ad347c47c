"""Requests to a server of ours: tried again while it cannot be reached, every refusal as the exception it stands for.

Trying again is safe: the server carries out an operation once, however often its request arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from ..faults import SandboxUnavailable
from ..sandbox import SandboxUsageError
from . import wire
from .loop_clients import LoopClients, payload

CONNECT_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class TooLarge(SandboxUsageError):
    """The server does not take a body of this size."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt came to nothing, and whether another one may do better."""

    sentence: str
    again: bool
    kind: str = ""


class Connection:
    """A server, from any event loop: each has connections of its own, kept open between requests.

    Args:
        url: Of the server.
        token: That it wants; it is sent nowhere else.
        patience: Seconds for which a server that cannot be reached, or is full, is tried again.
    """

    def __init__(self, url: str, token: str | None, patience: float) -> None:
        self.url, self._patience = url.rstrip("/"), patience
        parsed = URL(self.url) if "://" in url else URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SandboxUsageError(f"expected the URL of a sandbox server, such as http://host:8700, not {url!r}")
        if token is not None and (not token.isascii() or not token.isprintable()):
            raise SandboxUsageError("a token of a sandbox server is made of plain ASCII characters")
        self._clients = LoopClients({"Authorization": f"Bearer {token}"} if token else {})

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        seconds: float,
        key: int | None = None,
        raw: bool = False,
        once: bool = False,
    ) -> bytes:
        """The body of the answer.

        Args:
            method: Of HTTP.
            path: Below the server's URL, with its query, encoded.
            body: JSON, or anything where `raw`.
            seconds: That the answer may take.
            key: Of the operation, so that it is carried out once.
            raw: Whether the body is no JSON.
            once: Do not try again.

        Raises:
            SandboxUsageError: the server refused what was asked for; `TooLarge` where the body is.
            SandboxUnavailable: there is no answer, or the server failed.
        """
        headers = {} if key is None else {wire.KEY_HEADER: str(key)}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream" if raw else "application/json"
        pause, until = _FIRST_PAUSE, 0.0
        while True:
            answer = await self._attempt(method, path, body, headers, seconds)
            if isinstance(answer, bytes):
                return answer
            until = until or time.monotonic() + (0 if once else self._patience)
            if not answer.again or time.monotonic() + pause > until:
                raise self._exception(answer)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> bytes | _Failure:
        try:
            async with self._clients.here().request(
                method,
                URL(self.url + path, encoded=True),
                data=payload(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds)),
                allow_redirects=False,
            ) as response:
                status, content = response.status, await response.read()
        except aiohttp.ConnectionTimeoutError:
            return _Failure("does not take the connection", again=True)
        except TimeoutError:
            return _Failure(f"gave no answer within {seconds:g} s", again=False)
        except (aiohttp.ClientError, OSError) as error:
            return _Failure(f"cannot be reached ({str(error) or type(error).__name__})", again=True)
        return content if status in (200, 204) else _refusal(status, content)

    def _exception(self, failure: _Failure) -> Exception:
        if failure.kind == "usage":
            return SandboxUsageError(failure.sentence)
        if failure.kind == "too_large":
            return TooLarge(failure.sentence)
        return SandboxUnavailable(f"the sandbox server {self.url} {failure.sentence}")

    async def close(self) -> None:
        """Close the connections of this loop, and what loops that have ended left open."""
        await self._clients.close()


def _refusal(status: int, content: bytes) -> _Failure:
    try:
        refusal = wire.load(content, "Error")
    except wire.WireError:
        # Not ours: a proxy in between, or something else altogether.
        return _Failure(f"answered {status}, which is not its own answer", again=status in (502, 503, 504))
    kind, sentence = str(refusal["kind"]), str(refusal["error"])
    if kind in ("usage", "too_large"):
        return _Failure(sentence, again=False, kind=kind)
    return _Failure(f"refused: {sentence}", again=kind == "busy", kind=kind)
