"""Section credit: an extra reward on the tokens of single sections, clipped so that it only bites in successes.

FoldGRPO (arXiv 2510.11967) trains token t of episode e on

    A_{e,t} = clip(R_e + Q_{e,t}, low, high) - mean R

so that with rewards of 0 and 1 a penalty Q < 0 takes effect in successful episodes alone: among the ways to succeed it
prefers those without wasted sections, and it never makes a failure worse than another failure. Here two things are
made exact: a token without Q has the advantage of its episode to the bit, also where the reward lies outside the range;
and an episode whose reward is not above `low` gets no section credit, whatever the sign of Q.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...agents.episode import Episode, SectionSpan, Turn
from ...agents.tree import subtree, unused_sub_calls
from ...envs.protocol.turn import SectionKind
from .rows import Row


@dataclass(frozen=True, slots=True)
class Credit:
    """Q = `value` on the sampled tokens `start:end` of a segment; where credits overlap they add up."""

    segment: int
    start: int
    end: int
    value: float


class SectionCredit(Protocol):
    """A section credit of one's own."""

    def __call__(self, episode: Episode, /) -> Iterable[Credit]:
        """The credits of one episode; what is given, not sampled, is left out by itself."""
        ...


Stretch = tuple[int, int, int]
"""(segment, first token, one past the last)"""


def _failed_call(episode: Episode, limits: Mapping[str, int]) -> Iterator[Stretch]:
    """Calls that ended in an error."""
    for turn in episode.turns:
        for span, call in zip(_calls(episode, turn), turn.calls, strict=False):
            if call.error is not None:
                yield turn.segment, span.start, span.end


def _repeated_call(episode: Episode, limits: Mapping[str, int]) -> Iterator[Stretch]:
    """Calls that the episode had made before, with the same arguments and the same outcome: nothing was learnt."""
    seen: set[str] = set()
    for turn in episode.turns:
        for span, call in zip(_calls(episode, turn), turn.calls, strict=False):
            key = json.dumps([call.name, call.arguments, call.output, call.error], sort_keys=True)
            if key in seen:
                yield turn.segment, span.start, span.end
            seen.add(key)


def _unused_sub_call(episode: Episode, limits: Mapping[str, int]) -> Iterator[Stretch]:
    """Sub-calls whose answer is in no later turn of the policy that asked: the call, and all that it led to."""
    for sub_call in unused_sub_calls(episode):
        turn = episode.turns[sub_call.turn]
        for span in _calls(episode, turn)[sub_call.number : sub_call.number + 1]:
            yield turn.segment, span.start, span.end
        if sub_call.call.child is not None:
            for index in subtree(episode, sub_call.call.child):
                yield index, 0, len(episode.segments[index].token_ids)


def _long_section(episode: Episode, limits: Mapping[str, int]) -> Iterator[Stretch]:
    """What a section has beyond the limit of its kind."""
    for index, segment in enumerate(episode.segments):
        for span in segment.sections:
            if span.kind in limits and span.end - span.start > limits[span.kind]:
                yield index, span.start + limits[span.kind], span.end


def _calls(episode: Episode, turn: Turn) -> list[SectionSpan]:
    """The call sections of a turn, one for each of its calls; a malformed turn has sections but no calls."""
    return [
        span
        for span in episode.segments[turn.segment].sections
        if span.kind == SectionKind.CALL and turn.start <= span.start and span.end <= turn.end
    ]


TERMS: dict[str, Callable[[Episode, Mapping[str, int]], Iterator[Stretch]]] = {
    "failed_call": _failed_call,
    "repeated_call": _repeated_call,
    "unused_sub_call": _unused_sub_call,
    "long_section": _long_section,
}
"""The ready penalties: which stretches of an episode each is about."""


def penalties(episode: Episode, weights: Mapping[str, float], limits: Mapping[str, int]) -> Iterator[Credit]:
    """The ready penalties: Q = -weight on what each term is about."""
    for name, weight in weights.items():
        if weight:
            for stretch in TERMS[name](episode, limits):
                yield Credit(*stretch, -weight)


def check_credit(credit: Credit, episode: Episode) -> None:
    """Raise a `ValueError` that names the episode, unless the credit lies inside a segment and is finite."""
    inside = 0 <= credit.segment < len(episode.segments) and (
        0 <= credit.start <= credit.end <= len(episode.segments[credit.segment].token_ids)
    )
    if not (inside and math.isfinite(credit.value)):
        raise ValueError(
            f"section_credit gave episode {episode.id!r} {credit}; expected a finite value on tokens inside one of its "
            f"{len(episode.segments)} segments."
        )


def clipped_terms(row: Row, credits: Iterable[Credit], reward: float, bounds: tuple[float, float]) -> list[float]:
    """What section credit adds to the reward of each completion token of `row`: clip(R + Q, low, high) - R.

    Args:
        row: The row of a segment.
        credits: The credits on this segment.
        reward: R, above low.
        bounds: (low, high).

    Returns:
        As many values as the row has completion tokens; empty when all are 0.
    """
    high = max(bounds[1], reward)
    first, size = len(row.prompt_ids), len(row.completion_ids)
    q = [0.0] * size
    for credit in credits:
        for place in range(max(credit.start - first, 0), min(credit.end - first, size)):
            q[place] += credit.value
    terms = [
        (min(max(reward + value, bounds[0]), high) - reward) * sampled
        for value, sampled in zip(q, row.mask, strict=True)
    ]
    return terms if any(terms) else []
