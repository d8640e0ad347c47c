"""Frames: two lengths, a JSON header, raw bytes. Spoken between host and supervisor, and supervisor and worker."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

LENGTHS = struct.Struct(">II")
MAX_HEADER = 2**20


class Broken(Exception):
    """The other side closed, or does not speak frames."""


def read_exactly(descriptor: int, count: int) -> bytes:
    """Read `count` bytes from a blocking descriptor."""
    parts = []
    while count:
        part = os.read(descriptor, min(count, 2**20))
        if not part:
            raise Broken("closed")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_header(descriptor: int) -> tuple[dict[str, Any], int]:
    """Read a header; the body's bytes (their number is returned) are still to be read."""
    header_length, body_length = LENGTHS.unpack(read_exactly(descriptor, LENGTHS.size))
    return parse_header(read_exactly(descriptor, header_length)), body_length


def parse_header(text: bytes) -> dict[str, Any]:
    """Check and decode a header from a side that may lie."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken("the header is no JSON") from error
    if not isinstance(header, dict):
        raise Broken("the header is no JSON object")
    return header


def frame(header: dict[str, Any], body: bytes = b"", body_length: int | None = None) -> bytes:
    """The bytes of a frame; with `body_length` the caller sends the body itself."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(body) if body_length is None else body_length) + text + body


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class FrameParser:
    """Frames out of bytes that arrive in any pieces, from a side that may lie about lengths."""

    def __init__(self, max_body: int, max_header: int = MAX_HEADER) -> None:
        """Refuse frames that announce more than this."""
        self.max_body = max_body
        self.max_header = max_header
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Take bytes; the frame when it is complete.

        Raises:
            Broken: no frame of allowed size, or bytes after its end.
        """
        self._buffer += data
        if len(self._buffer) < LENGTHS.size:
            return None
        header_length, body_length = LENGTHS.unpack_from(self._buffer)
        if header_length > self.max_header or body_length > self.max_body:
            raise Broken("a frame announces more than is allowed")
        end = LENGTHS.size + header_length + body_length
        if len(self._buffer) < end:
            return None
        if len(self._buffer) > end:
            raise Broken("bytes after the end of a frame")
        header = parse_header(bytes(self._buffer[LENGTHS.size : LENGTHS.size + header_length]))
        body = bytes(self._buffer[LENGTHS.size + header_length :])
        self._buffer.clear()
        return header, body
