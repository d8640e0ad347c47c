"""When a turn may be, or has to be, a summary."""

from __future__ import annotations

from .protocol import FormatError, ParsedTurn, SectionKind
from .protocol.codecs import MARKERS

SUMMARY_DUE = "summary_due"
"""Kind of the error of a turn that was something else when only a summary could follow."""


def check_summary(turn: ParsedTurn, allowed: bool, due: bool) -> None:
    """Set the error of a well-formed turn that is a summary where none is allowed, or none where one is due."""
    if turn.error is not None or (turn.summary is not None) == due or (turn.summary is not None and allowed):
        return
    act = turn.sections[-1]
    found = MARKERS[act.kind][0]
    if due:
        turn.error = FormatError(SUMMARY_DUE, MARKERS[SectionKind.SUMMARY][0], found, act.start)
    else:
        turn.error = FormatError("unexpected_section", "<tool_call> or <answer>", found, act.start)
