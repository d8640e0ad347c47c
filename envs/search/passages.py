"""Passages, and reading them from a corpus file one at a time.

A corpus of millions of passages is never in memory at once, whatever the format: even the two formats that are one
large JSON value are parsed piece by piece.
"""

from __future__ import annotations

import gzip
import json
import re
from base64 import b32encode
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

_CHUNK = 1 << 20
_LONGEST_VALUE = 1 << 26
_LONGEST_ID = 512
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_LISTS_BY_KEY = re.compile(r'\s*\{\s*(?:$|"(?:[^"\\]|\\.)*"\s*:\s*(?:$|\[))')
_QUOTED_TITLE = re.compile(r'"(.*)"\n')


class DataError(ValueError):
    """A corpus or question file holds something that cannot be read; the message names the file and the line."""


class Passage(NamedTuple):
    """One retrievable piece of text."""

    id: str
    title: str
    text: str


def content_id(title: str, text: str) -> str:
    """A stable id for a passage that has none: 12 characters (60 bits) of the hash of its title and text.

    A question file that quotes its supporting passages leads to the same ids as the corpus that holds them, in
    whatever order, and the id of a passage survives when others are added.
    """
    digest = sha256(f"{title}\0{text}".encode(errors="replace")).digest()
    return b32encode(digest[:10]).decode().lower()[:12]


def read_passages(path: str | Path) -> Iterator[Passage]:
    """The passages of a corpus file (`.gz` or not), in file order.

    Formats: JSON Lines of `{"text", "title"?, "id"?}`, or of `{"contents", "id"?}` where the first line of `contents`
    is the quoted title (Search-R1); one JSON list of such objects (MuSiQue, HippoRAG); one JSON object of title -> list
    of sentences (HotpotQA). A passage without an id gets `content_id`.

    Raises:
        DataError: at the first row that is none of these; one sentence with the file and the line.
        FileNotFoundError: there is no such file.
    """
    for where, row in read_rows(path):
        yield _passage(row, where)


def read_rows(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Each JSON value of a JSON Lines file, a JSON list or a JSON object of lists, with its place (`file, line 3`).

    The members of a JSON object of lists come as `{"title": key, "sentences": value}`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a JSON or JSON Lines file at {path}, but there is no such file.")
    line = first = 1
    try:
        with _open_text(path) as file:
            head = file.readline(_CHUNK)
            while head and not head.strip():
                first += head.endswith("\n")
                head = file.readline(_CHUNK)
            if path.name.removesuffix(".gz").endswith(".jsonl") or not _is_one_value(head):
                for line, text in enumerate(_lines(head, file), start=first):
                    if text.strip():
                        yield f"{path}, line {line}", _decode_line(text, f"{path}, line {line}")
            else:
                for line, row in _Members(head, file, path, first):
                    yield f"{path}, line {line}", row
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, at or after line {line}: expected UTF-8 text, found {error}.") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected a whole gzip file: {error}.") from None


def expect(row: Any, key: str, kind: type, where: str) -> Any:
    """`row[key]` if `row` is a JSON object and this a `kind`; otherwise a `DataError` that says what was there."""
    if not isinstance(row, dict):
        raise DataError(f'{where}: expected an object with the key "{key}", found {shorten(row)}.')
    value = row.get(key)
    if not isinstance(value, kind):
        found = f"{shorten(value)}" if key in row else f"only the keys {shorten(sorted(row))}"
        raise DataError(f'{where}: expected "{key}" to be a {kind.__name__}, found {found}.')
    return value


def clean(text: str) -> str:
    """`text` as valid Unicode: half of a surrogate pair, which JSON may hold, becomes `?`."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def shorten(value: object, limit: int = 80) -> str:
    """`repr(value)`, cut to `limit` characters for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _passage(row: Any, where: str) -> Passage:
    if not isinstance(row, dict):
        raise DataError(f'{where}: expected a passage such as {{"title": ..., "text": ...}}, found {shorten(row)}.')
    if "sentences" in row:
        sentences = expect(row, "sentences", list, where)
        if not all(isinstance(sentence, str) for sentence in sentences):
            raise DataError(f"{where}: expected a list of sentences, found {shorten(sentences)}.")
        title, text = expect(row, "title", str, where), "".join(sentences)
    elif "contents" in row and "text" not in row:
        contents = expect(row, "contents", str, where)
        quoted = _QUOTED_TITLE.match(contents)
        title, text = (quoted[1], contents[quoted.end() :]) if quoted else ("", contents)
    else:
        text = expect(row, "text", str, where)
        title = "" if row.get("title") is None else expect(row, "title", str, where)
    if not title.strip() and not text.strip():
        raise DataError(f"{where}: expected a passage with a title or a text, found both empty.")
    return Passage(_id(row, where) or content_id(title, text), title, text)


def _id(row: dict[str, Any], where: str) -> str:
    given = row.get("id", row.get("_id"))
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not 0 < len(str(given)) <= _LONGEST_ID:
        wanted = f"a number or a text of 1 to {_LONGEST_ID} characters"
        raise DataError(f'{where}: expected "id" to be {wanted}, found {shorten(given)}.')
    return str(given)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")


def _is_one_value(head: str) -> bool:
    """Whether the file is a JSON list, or an object whose first value is a list, rather than JSON Lines."""
    if head.lstrip().startswith("["):
        return True
    return _LISTS_BY_KEY.match(head) is not None


def _lines(head: str, file: IO[str]) -> Iterator[str]:
    while head and not head.endswith("\n") and (more := file.readline(_CHUNK)):
        head += more
    return chain([head], file)


def _decode_line(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected one JSON value, found {shorten(text.strip())} ({error}).") from None


class _Members:
    """Iterates over (line, value) of the members of one large JSON list or object, holding a few at a time."""

    def __init__(self, head: str, file: IO[str], path: Path, line: int) -> None:
        self.file, self.path, self.line = file, path, line
        self.buffer, self.position = head, 0
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        is_object = self._take("[{") == "{"
        closing = "}" if is_object else "]"
        if self._peek() == closing:
            return
        while True:
            self._peek()
            line = self.line
            value = self._value()
            if is_object:
                self._take(":")
                value = {"title": value, "sentences": self._value()}
            yield line, value
            if self._take("," + closing) == closing:
                break
        if self._peek():
            raise self._error(f"expected the end of the file after {closing}, found {shorten(self._peek())}")

    def _peek(self) -> str:
        """Move to the next character that is no white space; return it ("" at the end of the file)."""
        while not (found := _NO_SPACE.search(self.buffer, self.position)):
            self._advance(len(self.buffer))
            if not self._more(_CHUNK):
                return ""
        self._advance(found.start())
        return found[0]

    def _take(self, wanted: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            rest = self.buffer[self.position : self.position + 40]
            found_text = shorten(rest) if rest else "the end of the file"
            raise self._error(f"expected one of {' '.join(wanted)}, found {found_text}")
        self._advance(self.position + 1)
        return found

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except (ValueError, RecursionError) as error:
                pending = len(self.buffer) - self.position
                if pending > _LONGEST_VALUE or not self._more(max(_CHUNK, pending)):
                    start = shorten(self.buffer[self.position : self.position + 80])
                    raise self._error(f"expected a JSON value, found {start} ({error})") from None
            else:
                self._advance(end)
                return value

    def _advance(self, end: int) -> None:
        self.line += self.buffer.count("\n", self.position, end)
        self.position = end

    def _more(self, size: int) -> bool:
        """Drop what was read, append `size` characters; False at the end of the file."""
        text = self.file.read(size)
        self.buffer, self.position = self.buffer[self.position :] + text, 0
        return bool(text)

    def _error(self, message: str) -> DataError:
        return DataError(f"{self.path}, line {self.line}: {message}.")
