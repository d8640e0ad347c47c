"""The streaming parser: pieces of text (tokens) in, typed sections with token spans out.

It never raises for what a policy wrote, and its time is linear in the length of the turn: every character is searched
once, and between two pieces only the last few, which may be the beginning of a marker, are kept.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from .codecs import MARKERS, Codec
from .errors import ContentError, FormatError, excerpt
from .turn import Mode, ParsedTurn, Section, SectionKind

_PLAN, _THINK, _CALL = SectionKind.PLAN, SectionKind.THINK, SectionKind.CALL
_SUMMARY, _ANSWER = SectionKind.SUMMARY, SectionKind.ANSWER
_ACTS = (_CALL, _SUMMARY, _ANSWER)
_ANY = (_PLAN, _THINK, *_ACTS)
_DUE = (_PLAN,)
_PLANNED, _BARE = Mode.PLAN, Mode.BARE
_NEXT: dict[SectionKind, tuple[SectionKind, ...]] = {
    _PLAN: (_THINK, *_ACTS),
    _THINK: _ACTS,
    _CALL: (_CALL,),
    _SUMMARY: (),
    _ANSWER: (),
}
_OPENING = {opening: (kind, closing, _NEXT[kind]) for kind, (opening, closing) in MARKERS.items()}
"""By opening marker: the section that it opens, its closing marker, and what may follow."""
_LONGEST_MARKER = max(map(len, _OPENING))
_visible = re.compile(r"\S").search


def _first(mode: Mode, plan_due: bool) -> tuple[SectionKind, ...]:
    """The sections that a turn may open with."""
    if mode is _BARE:
        return _ACTS
    return _DUE if plan_due and mode is _PLANNED else _ANY


class TurnParser:
    """Parses one turn.

    Args:
        codec: Reads plans and calls.
        mode: Which sections are allowed.
        plan_due: No plan has been accepted yet: in mode `plan` this turn must open with one.
    """

    __slots__ = ("_allowed", "_closing", "_codec", "_content", "_failure", "_kind", "_next", "_offset", "_pending",
                 "_pieces", "_sections", "_start")  # fmt: skip

    def __init__(self, codec: Codec, mode: Mode = Mode.PLAN, plan_due: bool = True) -> None:
        self._codec = codec
        self._allowed = self._next = _first(mode, plan_due)
        self._pieces: list[str] = []
        self._sections: list[Section] = []
        self._failure: tuple[str, str | None, int] | None = None
        """Kind, found and position of the first thing that the grammar does not allow."""
        self._pending = ""
        """Text not yet decided on, never longer than a marker."""
        self._offset = 0
        """Character of the turn at which `_pending` begins."""
        self._kind: SectionKind | None = None
        """The section that is open."""
        self._closing = ""
        self._content: list[str] = []
        self._start = 0

    def feed(self, piece: str) -> list[Section]:
        """Take the text of the next token (possibly empty) and return the sections that it completed."""
        self._pieces.append(piece)
        if self._failure is not None or not piece:
            return []
        before = len(self._sections)
        text = self._pending + piece
        decided = self._scan(text)
        self._pending = text[decided:]
        self._offset += decided
        return self._sections[before:]

    def finish(self) -> ParsedTurn:
        """The turn. Token spans count the pieces that were fed."""
        text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
        turn = ParsedTurn(text, self._sections)
        turn.error = self._grammar_error(text) or self._interpret(turn)
        if len(self._pieces) > 1:
            locate(self._sections, self._pieces)
        else:
            first = 0
            for section in self._sections:
                section.token_start, section.token_end = first, 1
                first = 1
        return turn

    def _scan(self, text: str) -> int:
        """Open and close the sections in `text`; returns how many of its characters are decided."""
        at = 0
        while True:
            if self._kind is None:
                visible = _visible(text, at)
                if visible is None:
                    return len(text)
                at = visible.start()
                marker = text[at : text.find(">", at, at + _LONGEST_MARKER) + 1]
                opened = _OPENING.get(marker)
                if opened is None:
                    if not any(opening.startswith(text[at : at + _LONGEST_MARKER]) for opening in _OPENING):
                        self._failure = ("unexpected_text", None, self._offset + at)
                    return at
                if opened[0] not in self._allowed:
                    self._failure = ("unexpected_section", marker, self._offset + at)
                    return at
                self._kind, self._closing, self._next = opened
                self._start = self._offset + at
                at += len(marker)
            end = text.find(self._closing, at)
            if end < 0:
                kept = max(at, len(text) - len(self._closing) + 1)
                self._content.append(text[at:kept])
                return kept
            content = text[at:end]
            if self._content:
                content = "".join((*self._content, content))
                self._content = []
            at = end + len(self._closing)
            self._sections.append(Section(self._kind, content, self._start, self._offset + at))
            self._allowed = self._next
            self._kind = None

    def _grammar_error(self, text: str) -> FormatError | None:
        if self._failure is not None:
            kind, found, position = self._failure
            return FormatError(kind, self._expected(), found or excerpt(text[position:]), position)
        if self._kind is not None:
            return FormatError("unclosed_section", self._closing, "the end of the turn", len(text))
        if self._pending:
            return FormatError("unexpected_text", self._expected(), excerpt(self._pending), self._offset)
        if not self._sections or self._sections[-1].kind not in _ACTS:
            return FormatError("missing_act", self._expected(), "the end of the turn", len(text))
        return None

    def _interpret(self, turn: ParsedTurn) -> FormatError | None:
        for section in turn.sections:
            kind = section.kind
            try:
                if kind is _CALL:
                    turn.calls.append(self._codec.read_call(section.text))
                elif kind is _PLAN:
                    turn.plan = self._codec.read_plan(section.text)
                elif kind is _ANSWER:
                    turn.answer = section.text.strip()
                elif kind is _SUMMARY:
                    turn.summary = section.text.strip()
            except ContentError as error:
                return FormatError(f"bad_{kind}", error.expected, error.found, section.start)
        return None

    def _expected(self) -> str:
        names = [MARKERS[kind][0] for kind in self._allowed]
        if not names:
            return "the end of the turn"
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def parse_turn(text: str, codec: Codec, mode: Mode = Mode.PLAN, plan_due: bool = True) -> ParsedTurn:
    """Parse a whole turn at once."""
    parser = TurnParser(codec, mode, plan_due)
    parser.feed(text)
    return parser.finish()


def parse_tokens(pieces: list[str], codec: Codec, mode: Mode = Mode.PLAN, plan_due: bool = True) -> ParsedTurn:
    """Parse a whole turn given the text of each of its tokens: as `parse_turn`, with token spans."""
    turn = parse_turn("".join(pieces), codec, mode, plan_due)
    locate(turn.sections, pieces)
    return turn


def locate(sections: Iterable[Section], pieces: Sequence[str]) -> None:
    """Set the token spans of `sections`, given the text of each token.

    A token lies where its first character that is not white space does: ` <plan>` belongs to the plan.
    """
    starts = list(accumulate(map(len, pieces), initial=0))
    for section in sections:
        section.token_start = _first_token(section.start, starts, pieces)
        section.token_end = _first_token(section.end, starts, pieces)


def _first_token(character: int, starts: list[int], pieces: Sequence[str]) -> int:
    """The first token that lies at or after `character`."""
    token = bisect_left(starts, character)
    if token:
        visible = pieces[token - 1].lstrip()
        if visible and starts[token] - len(visible) >= character:
            return token - 1
    return token
