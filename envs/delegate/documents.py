"""Long documents: numbered paragraphs, from texts or from the passages of a corpus."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..search.passages import DataError, Passage, read_passages

LONGEST_PARAGRAPH = 2000
"""Characters; a longer paragraph is split, so that one call can always show a whole one."""
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a document."""

    title: str
    first: int
    """Number of its first paragraph."""
    last: int
    words: int


class Document:
    """Paragraphs, numbered from 1, and the sections that they belong to.

    Args:
        sections: Title and paragraphs of each; one without paragraphs is left out.
    """

    def __init__(self, sections: Iterable[tuple[str, list[str]]]) -> None:
        self.paragraphs: list[str] = []
        self.sections: list[Section] = []
        for title, paragraphs in sections:
            if not paragraphs:
                continue
            first = len(self.paragraphs) + 1
            self.paragraphs += paragraphs
            self.sections.append(Section(title, first, len(self.paragraphs), count_words(paragraphs)))
        self.words = sum(section.words for section in self.sections)

    def __len__(self) -> int:
        return len(self.paragraphs)

    def __getitem__(self, number: int) -> str:
        """Paragraph `number`, from 1."""
        return self.paragraphs[number - 1]


class Corpus:
    """Passages in memory, each as the paragraphs that it gives in a document.

    Raises:
        DataError: two passages have the same id, or there is none.
    """

    def __init__(self, passages: Iterable[Passage], where: str) -> None:
        self._paragraphs: dict[str, list[str]] = {}
        self._titles: dict[str, str] = {}
        for passage in passages:
            heading = f"{passage.title}: " if passage.title else ""
            paragraphs = split_text(f"{heading}{passage.text}", blank_lines=False)
            if self._paragraphs.setdefault(passage.id, paragraphs) != paragraphs:
                raise DataError(f'{where}: expected ids to be unique, found "{passage.id}" for two passages.')
            self._titles.setdefault(passage.title, passage.id)
        if not self._paragraphs:
            raise DataError(f"{where}: expected passages, found none.")
        self.where = where
        self.ids = list(self._paragraphs)
        self.lengths = {name: count_words(paragraphs) for name, paragraphs in self._paragraphs.items()}
        """Words of each passage, its title included."""
        self.words = sum(self.lengths.values())

    def find(self, name: str) -> str | None:
        """The id of the passage with that id or title."""
        return name if name in self._paragraphs else self._titles.get(name)

    def paragraphs(self, passage_id: str) -> list[str]:
        """What a passage gives in a document.

        Raises:
            KeyError: there is no such passage.
        """
        return self._paragraphs[passage_id]


def split_text(text: str, *, blank_lines: bool = True) -> list[str]:
    """The paragraphs of a text, each on one line; one that is too long is split, between sentences where it can be.

    Args:
        text: The text.
        blank_lines: Whether blank lines separate paragraphs.
    """
    blocks = _BLANK_LINES.split(text) if blank_lines else [text]
    return [piece for block in blocks for piece in _pieces(" ".join(block.split()))]


def sentences_of(paragraph: str) -> list[str]:
    """The sentences of a paragraph: cut behind each full stop, question or exclamation mark that a space follows."""
    return _SENTENCE.split(paragraph)


def count_words(paragraphs: Iterable[str]) -> int:
    """Words between spaces."""
    return sum(len(paragraph.split()) for paragraph in paragraphs)


def open_corpus(path: str | Path) -> Corpus:
    """The passages of a corpus file; environments of one process share them until the file changes.

    Raises:
        ValueError: the file is not there, or not a corpus.
    """
    return _open_corpus(Path(path), file_stamp("corpus", path))


def file_stamp(what: str, path: str | Path) -> tuple[int, int]:
    """Changes when the file does.

    Raises:
        ValueError: there is no such file; `what` says what it should be.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise ValueError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=8)
def _open_corpus(path: Path, stamp: tuple[int, int]) -> Corpus:
    return Corpus(read_passages(path), str(path))


def _pieces(line: str) -> list[str]:
    if len(line) <= LONGEST_PARAGRAPH:
        return [line] if line else []
    pieces = [""]
    for unit in _units(line):
        if len(pieces[-1]) + 1 + len(unit) > LONGEST_PARAGRAPH:
            pieces.append("")
        pieces[-1] = f"{pieces[-1]} {unit}".lstrip()
    return [piece for piece in pieces if piece]


def _units(line: str) -> Iterable[str]:
    """Sentences; words where a sentence is too long, and stretches of a word that is."""
    for sentence in sentences_of(line):
        for unit in [sentence] if len(sentence) <= LONGEST_PARAGRAPH else sentence.split():
            yield from (unit[i : i + LONGEST_PARAGRAPH] for i in range(0, len(unit), LONGEST_PARAGRAPH))
