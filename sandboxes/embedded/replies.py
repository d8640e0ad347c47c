"""Frames of the worker, in and out. What it sends is not trusted: anything odd is a broken channel."""

from __future__ import annotations

from dataclasses import dataclass

from .inside.worker import CUT, ERROR_BYTES, FAILED, REPLY, REQUEST

_MARGIN = 64
"""What the note of a cut adds to a value or an error."""


class BrokenFrameError(Exception):
    """The worker sent what no worker sends."""


@dataclass(frozen=True)
class Reply:
    """What the worker said about a cell."""

    failed: bool
    cut: bool
    cpu_seconds: float
    peak: int
    value: str | None
    error: str


def cell(number: int, source: bytes) -> bytes:
    """A cell as the worker reads it."""
    return REQUEST.pack(number, len(source)) + source


def parse(frame: bytearray, expected: int | None, value_bytes: int) -> Reply | None:
    """The reply to the cell with this number, None while it is incomplete; raises `BrokenFrameError`."""
    if expected is None:
        raise BrokenFrameError
    if len(frame) < REPLY.size:
        return None
    number, flags, seconds, peak, value_size, error_size = REPLY.unpack_from(frame)
    value_end = REPLY.size + max(0, value_size - 1)
    fits = value_size - 1 <= value_bytes + _MARGIN and error_size <= ERROR_BYTES + _MARGIN
    plausible = flags <= FAILED | CUT and 0 <= seconds < 1e9 and peak < 1 << 50
    if not fits or not plausible or number != expected or len(frame) > value_end + error_size:
        raise BrokenFrameError
    if len(frame) < value_end + error_size:
        return None
    value = frame[REPLY.size : value_end].decode("utf-8", "replace") if value_size else None
    error = frame[value_end:].decode("utf-8", "replace")
    return Reply(bool(flags & FAILED), bool(flags & CUT), seconds, peak, value, error)
