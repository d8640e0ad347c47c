"""Which contexts and calls of an episode lie on its critical path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from ..episode import Episode, SegmentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTree:
    """The critical path of an episode: `agents.tree.critical_path` with names, made from the spans of the turns."""

    sampled: list[int]
    """By segment: tokens that the policy sampled in it."""
    segments: frozenset[int]
    """Segments on the path."""
    calls: frozenset[tuple[int, int]]
    """(turn, number in it) of the sub-calls on the path."""
    tokens: int
    """Sampled tokens on the path."""
    total: int
    """Sampled tokens on all paths, those of frozen sub-models among them."""


def mark_tree(episode: Episode) -> MarkedTree:
    """Find the path that takes longest when the sub-calls of one turn run side by side."""
    segments = episode.segments
    sampled = [0] * len(segments)
    ends: list[list[int]] = [[] for _ in segments]
    branches: list[dict[int, list[tuple[int, int | None, tuple[int, int] | None]]]] = [{} for _ in segments]
    """By segment and turn in it: tokens, segment and call of everything that ran side by side."""
    asked: dict[int, tuple[int, int]] = {}
    frozen = 0
    for index, turn in enumerate(episode.turns):
        sampled[turn.segment] += turn.end - turn.start
        for number, call in enumerate(turn.calls):
            if call.child is not None:
                asked[call.child] = (index, number)
            elif call.sampled_tokens:
                here = branches[turn.segment].setdefault(len(ends[turn.segment]), [])
                here.append((call.sampled_tokens, None, (index, number)))
                frozen += call.sampled_tokens
        ends[turn.segment].append(turn.end)
    followers: list[list[int]] = [[] for _ in segments]
    longest = [0] * len(segments)
    for index in range(len(segments) - 1, -1, -1):
        side_by_side = sum(max(branch[0] for branch in turn) for turn in branches[index].values())
        longest[index] = sampled[index] + sum(longest[f] for f in followers[index]) + side_by_side
        parent = segments[index].parent
        if parent is None:
            continue
        if segments[index].kind is SegmentKind.SUB_CALL:
            turn_number = bisect_left(ends[parent[0]], parent[1])
            branches[parent[0]].setdefault(turn_number, []).append((longest[index], index, asked.get(index)))
        else:
            followers[parent[0]].append(index)
    on_path: set[int] = set()
    calls: set[tuple[int, int]] = set()
    waiting = [0]
    while waiting:
        index = waiting.pop()
        on_path.add(index)
        waiting += followers[index]
        for turn_branches in branches[index].values():
            # The first of the longest: segments were added last to first.
            _, child, asked_by = max(reversed(turn_branches), key=lambda branch: branch[0])
            waiting += [child] if child is not None else []
            calls.update([asked_by] if asked_by is not None else [])
    return MarkedTree(
        sampled=sampled, segments=frozenset(on_path), calls=frozenset(calls), tokens=longest[0],
        total=sum(sampled) + frozen,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lineage:
    """Of each segment what `Episode.task_of` and `Episode.depth_of` say, found in one pass."""

    task: list[int]
    depth: list[int]


def lineage(episode: Episode) -> Lineage:
    """Where each segment belongs."""
    task: list[int] = []
    depth: list[int] = []
    for index, segment in enumerate(episode.segments):
        parent = None if segment.parent is None else segment.parent[0]
        begins = parent is None or segment.kind is SegmentKind.SUB_CALL
        task.append(index if begins or parent is None else task[parent])
        depth.append(0 if parent is None else depth[parent] + begins)
    return Lineage(task, depth)


def section_tokens(spans: Iterable[tuple[str, int, int]], sampled: int) -> dict[str, int]:
    """Sampled tokens by kind of section; `other` is what no section holds."""
    tokens: dict[str, int] = {}
    for kind, start, end in spans:
        tokens[kind] = tokens.get(kind, 0) + end - start
    other = sampled - sum(tokens.values())
    return {**tokens, "other": other} if other > 0 else tokens
