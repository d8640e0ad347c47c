"""The tree of an episode's contexts: which follow one another, what a sub-call made, and which path takes longest."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from ..envs.tools import CallResult
from .episode import Episode, SegmentKind

_LONGEST_ANSWER = 16
"""Words of an answer that can be looked for word by word; a longer one is used in other words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """How long an episode takes when what may run side by side does."""

    tokens: int
    """Sampled tokens on the longest path: of the sub-calls made in one turn only the longest counts."""
    total: int
    """Sampled tokens on all paths; those of frozen sub-models are among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubCall:
    """A call to a sub-model that was carried out."""

    turn: int
    """Index of the turn in `Episode.turns`."""
    number: int
    """Index of the call in that turn."""
    call: CallResult


def critical_path(episode: Episode) -> CriticalPath:
    """Sum over the turns of their own tokens and of the longest sub-call made in each, over the tree of contexts.

    A context that follows another one (after a summary, or trimmed) comes after it, so it always counts. A frozen
    sub-model leaves no context; its tokens are those that its call reports.
    """
    ends: list[list[int]] = [[] for _ in episode.segments]
    side_by_side: list[dict[int, int]] = [{} for _ in episode.segments]
    total = episode.sampled_tokens()
    for turn in episode.turns:
        for call in turn.calls:
            if call.child is None and call.sampled_tokens:
                _keep_longest(side_by_side[turn.segment], len(ends[turn.segment]), call.sampled_tokens)
                total += call.sampled_tokens
        ends[turn.segment].append(turn.end)
    after = [0] * len(episode.segments)
    longest = 0
    for index in range(len(episode.segments) - 1, -1, -1):
        segment = episode.segments[index]
        longest = sum(segment.sampled) + after[index] + sum(side_by_side[index].values())
        if segment.parent is None:
            continue
        parent, position = segment.parent
        if segment.kind is SegmentKind.SUB_CALL:
            _keep_longest(side_by_side[parent], bisect_left(ends[parent], position), longest)
        else:
            after[parent] += longest
    return CriticalPath(tokens=longest, total=total)


def _keep_longest(of_turn: dict[int, int], turn: int, tokens: int) -> None:
    of_turn[turn] = max(of_turn.get(turn, 0), tokens)


def subtree(episode: Episode, index: int) -> list[int]:
    """Segment `index` and every segment that began in it or in one of those."""
    inside = {index}
    for number in range(index + 1, len(episode.segments)):
        parent = episode.segments[number].parent
        if parent is not None and parent[0] in inside:
            inside.add(number)
    return sorted(inside)


def sub_calls(episode: Episode) -> list[SubCall]:
    """The calls to sub-models that were carried out, in the order of the turns, whether or not they gave an answer."""
    return [
        SubCall(turn=index, number=number, call=call)
        for index, turn in enumerate(episode.turns)
        for number, call in enumerate(turn.calls)
        if call.model is not None
    ]


def unused_sub_calls(episode: Episode) -> list[SubCall]:
    """The sub-calls whose answer stands, word for word, in no later turn of the policy that asked.

    A sub-call that failed, and one whose answer has no words or more than a few, is not judged.
    """
    judged = {(s.turn, s.number): s for s in sub_calls(episode) if s.call.error is None}
    unused: list[SubCall] = []
    later: dict[int, str] = {}
    """Of the episode and of each sub-task: the words of the turns that come after."""
    for index in range(len(episode.turns) - 1, -1, -1):
        turn = episode.turns[index]
        task = episode.task_of(turn.segment)
        after = later.get(task, "")
        for number in range(len(turn.calls) - 1, -1, -1):
            words = _words(turn.calls[number].output)
            if (index, number) in judged and 1 <= len(words.split()) <= _LONGEST_ANSWER and words not in after:
                unused.append(judged[index, number])
        arguments = (str(value) for call in turn.calls for value in call.arguments.values())  # in JSON with escapes
        later[task] = "|".join([*map(_words, (turn.text, *arguments)), after])
    return unused[::-1]


def _words(text: str) -> str:
    """The words of a text, each between two spaces."""
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return f" {words} "
