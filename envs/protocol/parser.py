"""The streaming parser: pieces of text (tokens) in, typed sections with token spans out.

It never raises for what a policy wrote, and its time is linear in the length of the turn: inside a section only the new
piece and the last few characters before it are searched for the closing marker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from .codecs import MARKERS, Codec
from .errors import ContentError, FormatError, excerpt
from .turn import Mode, ParsedTurn, Section, SectionKind

_PLAN, _THINK, _CALL = SectionKind.PLAN, SectionKind.THINK, SectionKind.CALL
_ACTS = (SectionKind.CALL, SectionKind.SUMMARY, SectionKind.ANSWER)
_NEXT: dict[SectionKind, tuple[SectionKind, ...]] = {
    _PLAN: (_THINK, *_ACTS),
    _THINK: _ACTS,
    _CALL: (_CALL,),
    SectionKind.SUMMARY: (),
    SectionKind.ANSWER: (),
}
_OPENING = tuple((kind, markers[0]) for kind, markers in MARKERS.items())
_LONGEST_MARKER = max(len(marker) for _, marker in _OPENING)


def _first(mode: Mode, plan_due: bool) -> tuple[SectionKind, ...]:
    if mode is Mode.BARE:
        return _ACTS
    if plan_due and mode is Mode.PLAN:
        return (_PLAN,)
    return (_PLAN, _THINK, *_ACTS)


_FIRST = {(mode, due): _first(mode, due) for mode in Mode for due in (False, True)}


class TurnParser:
    """Parses one turn.

    Args:
        codec: Reads plans and calls.
        mode: Which sections are allowed.
        plan_due: No plan has been accepted yet: in mode `plan` this turn must open with one.
    """

    __slots__ = ("_allowed", "_closing", "_codec", "_content", "_error", "_kind", "_lengths", "_offset", "_pending",
                 "_pieces", "_sections", "_start")  # fmt: skip

    def __init__(self, codec: Codec, mode: Mode = Mode.PLAN, plan_due: bool = True) -> None:
        self._codec = codec
        self._allowed = _FIRST[mode, plan_due]
        self._pieces: list[str] = []
        self._sections: list[Section] = []
        self._error: FormatError | None = None
        self._pending = ""
        """Text not yet decided on; between tokens never longer than a marker."""
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
        if self._error is not None or not piece:
            return []
        self._pending += piece
        before = len(self._sections)
        while self._inside() if self._kind is not None else self._between():
            pass
        return self._sections[before:]

    def finish(self) -> ParsedTurn:
        """The turn. Token spans count the pieces that were fed."""
        text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
        turn = ParsedTurn(text, self._sections)
        if self._error is None:
            self._error = self._unfinished(len(text))
        if self._error is None:
            self._interpret(turn)
        turn.error = self._error
        if len(self._pieces) > 1:
            locate(self._sections, self._pieces)
        else:
            for section in self._sections:
                section.token_end = 1
        return turn

    def _between(self) -> bool:
        """Open the next section if its marker is whole. True when there is more to do."""
        text = self._pending.lstrip()
        if not text:
            self._offset += len(self._pending)
            self._pending = ""
            return False
        position = self._offset + len(self._pending) - len(text)
        for kind, marker in _OPENING:
            if text.startswith(marker):
                if kind not in self._allowed:
                    self._fail("unexpected_section", self._expected(), marker, position)
                    return False
                self._kind, self._closing, self._start = kind, MARKERS[kind][1], position
                self._offset = position + len(marker)
                self._pending = text[len(marker) :]
                return True
        if len(text) >= _LONGEST_MARKER or not any(marker.startswith(text) for _, marker in _OPENING):
            self._fail("unexpected_text", self._expected(), excerpt(text), position)
        return False

    def _inside(self) -> bool:
        """Close the open section if its end is there. True when there is more to do."""
        assert self._kind is not None
        end = self._pending.find(self._closing)
        if end < 0:
            keep = len(self._pending) - len(self._closing) + 1
            if keep > 0:
                self._content.append(self._pending[:keep])
                self._offset += keep
                self._pending = self._pending[keep:]
            return False
        self._content.append(self._pending[:end])
        after = end + len(self._closing)
        self._offset += after
        self._sections.append(Section(self._kind, "".join(self._content), self._start, self._offset))
        self._pending = self._pending[after:]
        self._allowed = _NEXT[self._kind]
        self._kind = None
        self._content = []
        return True

    def _unfinished(self, length: int) -> FormatError | None:
        if self._kind is not None:
            return FormatError("unclosed_section", self._closing, "the end of the turn", length)
        if self._pending.strip():
            return FormatError("unexpected_text", self._expected(), excerpt(self._pending), self._offset)
        if not self._sections or self._sections[-1].kind not in _ACTS:
            return FormatError("missing_act", self._expected(), "the end of the turn", length)
        return None

    def _interpret(self, turn: ParsedTurn) -> None:
        for section in turn.sections:
            try:
                if section.kind is _CALL:
                    turn.calls.append(self._codec.read_call(section.text))
                elif section.kind is _PLAN:
                    turn.plan = self._codec.read_plan(section.text)
                elif section.kind is SectionKind.ANSWER:
                    turn.answer = section.text.strip()
                elif section.kind is SectionKind.SUMMARY:
                    turn.summary = section.text.strip()
            except ContentError as error:
                self._error = FormatError(f"bad_{section.kind}", error.expected, error.found, section.start)
                return

    def _expected(self) -> str:
        names = [MARKERS[kind][0] for kind in self._allowed]
        if not names:
            return "the end of the turn"
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

    def _fail(self, kind: str, expected: str, found: str, position: int) -> None:
        self._error = FormatError(kind, expected, found, position)


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


def locate(sections: Iterable[Section], pieces: Iterable[str]) -> None:
    """Set the token spans of `sections`, given the text of each token.

    A token lies where its first character that is not white space does: ` <plan>` belongs to the plan.
    """
    starts, offset = [], 0
    for piece in pieces:
        visible = len(piece.lstrip())
        starts.append(offset + (len(piece) - visible if visible else 0))
        offset += len(piece)
    for section in sections:
        section.token_start = bisect_left(starts, section.start)
        section.token_end = bisect_left(starts, section.end)
