"""Long texts of a JSON line, cut before the line is parsed: a turn of 50 MB costs no more than a short one."""

from __future__ import annotations

import re

LONGEST_TEXT = 64 << 10
"""Bytes of JSON of one text that are kept."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_WHOLE = re.compile(rb"(?:[^\\]++|\\u[0-9A-Fa-f]{4}|\\[^u])*+", re.DOTALL)
"""As many whole characters and escapes as there are."""


def cut_texts(line: bytes | bytearray, longest: int = LONGEST_TEXT) -> tuple[bytes | bytearray, int]:
    """The line with every text cut to `longest` bytes, and how many were.

    What is cut ends with `[cut: N more bytes]`, in ceiling brackets. A line without long texts comes back as it is.
    """
    if len(line) <= longest:
        return line, 0
    parts: list[bytes | bytearray] = []
    kept, count = 0, 0
    for match in _STRING.finditer(line):
        begin, end = match.start() + 1, match.end() - 1
        if end - begin <= longest:
            continue
        whole = _WHOLE.match(line, begin, begin + longest)
        stop = whole.end() if whole else begin
        parts += [line[kept:stop], f" \\u2308cut: {end - stop} more bytes\\u2309".encode("ascii")]
        kept, count = end, count + 1
    if not count:
        return line, 0
    return b"".join([*parts, line[kept:]]), count
