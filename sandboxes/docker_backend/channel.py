"""The stream to a container's process 1: Docker's multiplexed attach stream, and frames inside it.

Everything that arrives is checked as if foreign code had written it: lengths are capped before anything is kept,
headers are strict JSON objects, answers carry the number of their question, and bytes that nobody asked for break the
channel.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from .guest.frames import Broken, FrameParser, frame

_PIECE = struct.Struct(">BxxxL")
_STDOUT, _STDERR = 1, 2
_MAX_NOISE = 4096


class ChannelBroken(Exception):
    """The container's end closed, lied about a length, or answered what was not asked."""


class Demultiplexer:
    """Takes Docker's attach stream apart: pieces of stdout and stderr, each with a header of 8 bytes."""

    def __init__(self) -> None:
        self.noise = b""
        """The start of what came on stderr: where process 1 could not start, the reason."""
        self._header = bytearray()
        self._left = 0
        self._stream = 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes in any pieces; give those of stdout.

        Raises:
            ChannelBroken: this is not the attach stream of a container without a terminal.
        """
        out = []
        view = memoryview(data)
        while view:
            if not self._left:
                need = _PIECE.size - len(self._header)
                self._header += view[:need]
                view = view[need:]
                if len(self._header) < _PIECE.size:
                    break
                self._stream, self._left = _PIECE.unpack(self._header)
                self._header.clear()
                if self._stream not in (_STDOUT, _STDERR):
                    raise ChannelBroken("the engine sent something that is no attach stream")
                continue
            piece = view[: self._left]
            view = view[len(piece) :]
            self._left -= len(piece)
            if self._stream == _STDOUT:
                out.append(bytes(piece))
            else:
                self.noise += bytes(piece[: _MAX_NOISE - len(self.noise)])
        return b"".join(out)


class Channel(asyncio.Protocol):
    """One question at a time over one attach stream."""

    def __init__(self) -> None:
        self._streams = Demultiplexer()
        self._parser: FrameParser | None = None
        self._answer: asyncio.Future[tuple[dict[str, Any], bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self.broken: str | None = None
        """Why the channel is of no use any more."""

    @property
    def noise(self) -> str:
        """What process 1 wrote to its stderr, for messages about containers that do not start."""
        return self._streams.noise.decode("utf-8", "replace").strip()

    async def first(self, timeout: float) -> None:
        """Wait until process 1 says that it is ready."""
        self._expect(0)
        await self._wait(0, timeout)

    async def ask(
        self, kind: str, fields: dict[str, Any], body: bytes = b"", *, timeout: float, max_body: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """Send a question and wait for its answer.

        Raises:
            ChannelBroken: there is none, or it is none.
            TimeoutError: none came in time. The channel is broken then, as it is when the caller is cancelled.
        """
        if self.broken is not None or self._transport is None:
            raise ChannelBroken(self.broken or "not connected")
        self._number += 1
        number = self._number
        self._expect(max_body)
        self._transport.write(frame({"id": number, "kind": kind, **fields}, body))
        return await self._wait(number, timeout)

    def close(self) -> None:
        """Drop the connection, which ends the container's process 1."""
        self._break("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: the container or the engine is gone."""
        self._break("the container's process 1 ended")

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes of the attach stream."""
        if self.broken is not None:
            return
        try:
            data = self._streams.feed(data)
            if not data:
                return
            if self._parser is None or self._answer is None:
                raise ChannelBroken("the container spoke without being asked")
            answer = self._parser.feed(data)
        except (Broken, ChannelBroken) as error:
            self._break(str(error))
            return
        if answer is not None:
            self._parser = None
            if not self._answer.done():
                self._answer.set_result(answer)

    def _expect(self, max_body: int) -> None:
        self._parser = FrameParser(max_body)
        self._answer = asyncio.get_running_loop().create_future()
        if self.broken is not None:
            self._break(self.broken)

    async def _wait(self, number: int, timeout: float) -> tuple[dict[str, Any], bytes]:
        assert self._answer is not None
        try:
            async with asyncio.timeout(timeout):
                header, body = await self._answer
        except (TimeoutError, asyncio.CancelledError):
            self._break("no answer was waited for")
            raise
        finally:
            self._answer = None
        identifier = header.get("id")
        if type(identifier) is not int or identifier != number:
            self._break("the container answered another question")
            raise ChannelBroken(self.broken)
        return header, body

    def _break(self, reason: str) -> None:
        if self.broken is None:
            self.broken = reason
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ChannelBroken(self.broken))
        if self._transport is not None:
            self._transport.abort()
