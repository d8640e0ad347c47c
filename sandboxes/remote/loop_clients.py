"""HTTP clients for every event loop that asks: connections belong to the loop that made them."""

from __future__ import annotations

import asyncio
import io
import weakref
from collections.abc import Mapping

import aiohttp

_PIECE = 1 << 18


class LoopClients:
    """Clients with the same headers, one a loop."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession]
        self._clients = weakref.WeakKeyDictionary()

    def here(self) -> aiohttp.ClientSession:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None or client.closed:
            # Each call that waits needs a connection: a bound here would make runs wait for each other.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0)
            client = self._clients[loop] = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return client

    async def close(self) -> None:
        """Close the connections of this loop, and what loops that have ended left open."""
        here = asyncio.get_running_loop()
        for loop, client in list(self._clients.items()):
            if loop is here or loop.is_closed():
                del self._clients[loop]
                await client.close()


def payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """A body for a request; from a file, a large one is sent piece by piece and the loop goes on meanwhile."""
    return body if body is None or len(body) <= _PIECE else io.BytesIO(body)
