"""Text from models and tasks, made harmless: shown as it is, never interpreted by a browser or a terminal."""

from __future__ import annotations

import html
import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, terminal escapes among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction overrides, which make text read as what it is not
    "\ud800-\udfff\ufeff\ufffe\uffff]"  # lone surrogates, which UTF-8 cannot hold, and non-characters
)


def printable(text: str) -> str:
    """The text with everything that acts instead of showing made visible; line feeds and tabs stay."""
    return _UNSAFE.sub(_visible, text)


def one_line(text: str) -> str:
    """The text on one line, for terminals."""
    return " ".join(printable(text).split())


def escape(text: str) -> str:
    """The text for HTML and SVG, in elements and in quoted attributes."""
    return html.escape(printable(text), quote=True)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\N{LEFT CEILING}U+{code:04X}\N{RIGHT CEILING}"
