"""An episode as the page and the terminal show it: plain data, every text of it harmless."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from typing import Any

from ...envs.protocol.codecs import MARKERS
from ..episode import Episode, Segment, SegmentKind, Turn
from ..report.escape import printable
from .call_tree import Lineage, MarkedTree, lineage, mark_tree, section_tokens
from .columns import ColumnError, TokenColumns
from .summary import is_correct, number_or_none, repeated_calls
from .trace import Trace

_MARKER = re.compile("|".join(re.escape(marker) for pair in MARKERS.values() for marker in pair))
_OPENING = {pair[0]: (kind.value, pair[1]) for kind, pair in MARKERS.items()}
_MOST_SEGMENTS, _MOST_PLANS, _MOST_CALLS = 2000, 500, 500
"""What is shown at once; how many are left out is said."""


def describe_episode(
    trace: Trace, tokens: TokenColumns | None = None, start: int = 0, count: int = 100
) -> dict[str, Any]:
    """Everything about an episode, with `count` of its turns from `start`.

    Args:
        trace: The episode.
        tokens: The token columns, for mean log-probabilities.
        start: First turn.
        count: Most turns.
    """
    episode = trace.episode
    tree = mark_tree(episode)
    shown = range(max(0, start), min(len(episode.turns), max(0, start) + count))
    spans = [(s.kind, s.start, s.end) for segment in episode.segments for s in segment.sections]
    expected = episode.task.get("answer")
    lines = lineage(episode)
    plans_of = _plans_in_force(episode, lines)
    repeated = repeated_calls(episode)
    logprobs = _mean_logprobs(trace, tokens, shown)
    return {
        "id": printable(episode.id),
        "task_id": printable(episode.task_id),
        "attempt": episode.attempt,
        "problems": [printable(problem) for problem in trace.problems],
        "prompt": printable(episode.task["prompt"]),
        "answer": _text(episode.answer),
        "expected": _text(expected) if expected is None or isinstance(expected, str) else _json(expected),
        "difficulty": number_or_none(episode.task.get("difficulty")),
        "correct": is_correct(episode),
        "status": episode.status.value,
        "stop_reason": printable(episode.stop_reason),
        "fault": _text(episode.fault),
        "retries": episode.retries,
        "reward": episode.reward,
        "scores": {printable(name): value for name, value in episode.scores.items()},
        "weights": _weights(episode),
        "usage": {printable(name): value for name, value in episode.usage.items()},
        "env": _json(episode.env),
        "window": _json(episode.window),
        "seed": str(episode.seed),
        "plans": _plans(episode, lines, plans_of),
        "left_out_plans": max(0, len(episode.plans) - _MOST_PLANS),
        "segments": _segments(trace, tree, lines),
        "left_out_segments": max(0, len(episode.segments) - _MOST_SEGMENTS),
        "sections": section_tokens(spans, sum(tree.sampled)),
        "sampled": sum(tree.sampled),
        "given": sum(max(0, length - n) for (_, length), n in zip(trace.columns, tree.sampled, strict=True)),
        "critical": {"tokens": tree.tokens, "total": tree.total},
        "turn_count": len(episode.turns),
        "start": shown.start,
        "turns": [
            {**_turn(episode, tree, lines, repeated, index), "plan": plans_of[index], "logprob": logprobs.get(index)}
            for index in shown
        ],
    }


def split_sections(text: str) -> list[tuple[str, str]]:
    """The sections of a turn as (kind, text without markers); what stands outside of whole ones is `other`."""
    parts: list[tuple[str, str]] = []
    at = 0
    markers = list(_MARKER.finditer(text))
    closings = {closing: [m.start() for m in markers if m[0] == closing] for _, closing in _OPENING.values()}
    for match in markers:
        if match.start() < at or match[0] not in _OPENING:
            continue
        kind, closing = _OPENING[match[0]]
        number = bisect_left(closings[closing], match.end())
        if number == len(closings[closing]):
            continue
        end = closings[closing][number]
        parts += [("other", text[at : match.start()]), (kind, text[match.end() : end])]
        at = end + len(closing)
    parts.append(("other", text[at:]))
    return [(kind, inner.strip()) for kind, inner in parts if kind != "other" or inner.strip()]


def _turn(
    episode: Episode, tree: MarkedTree, lines: Lineage, repeated: set[tuple[int, int]], index: int
) -> dict[str, Any]:
    turn = episode.turns[index]
    sampled = turn.end - turn.start
    return {
        "index": index,
        "segment": turn.segment,
        "depth": lines.depth[turn.segment],
        "critical": turn.segment in tree.segments,
        "sections": [{"kind": kind, "text": printable(text)} for kind, text in split_sections(turn.text)],
        "observation": printable(turn.observation),
        "error": _text(turn.error),
        "tokens": sampled,
        "parts": section_tokens(_spans(episode, turn), sampled),
        "seconds": turn.seconds,
        "sampling_seconds": turn.sampling_seconds,
        "calls": [
            {
                "name": printable(call.name),
                "arguments": _json(call.arguments),
                "step": call.step,
                "output": printable(call.output),
                "error": _text(call.error),
                "repeated": (index, number) in repeated,
                "model": _text(call.model),
                "child": call.child,
                "tokens": call.sampled_tokens,
                "stop_reason": _text(call.stop_reason),
                "critical": (index, number) in tree.calls,
            }
            for number, call in enumerate(turn.calls[:_MOST_CALLS])
        ],
        "left_out_calls": max(0, len(turn.calls) - _MOST_CALLS),
    }


def _spans(episode: Episode, turn: Turn) -> list[tuple[str, int, int]]:
    return [
        (s.kind, s.start, s.end)
        for s in episode.segments[turn.segment].sections
        if turn.start <= s.start and s.end <= turn.end
    ]


def _plans(episode: Episode, lines: Lineage, in_force: list[int | None]) -> list[dict[str, Any]]:
    """The versions, each step with the (turn, number) of the calls that say that they serve it."""
    served: dict[tuple[int, int], list[list[int]]] = {}
    for index, turn in enumerate(episode.turns):
        for number, call in enumerate(turn.calls):
            if call.step is not None and (plan := in_force[index]) is not None:
                served.setdefault((plan, call.step), []).append([index, number])
    return [
        {
            "turn": plan.turn,
            "task": lines.task[episode.turns[plan.turn].segment],
            "depth": lines.depth[episode.turns[plan.turn].segment],
            "steps": [
                {**step, "text": printable(step["text"]), "served_by": served.get((index, step["number"]), [])}
                for step in plan.steps
            ],
        }
        for index, plan in enumerate(episode.plans[:_MOST_PLANS])
    ]


def _plans_in_force(episode: Episode, lines: Lineage) -> list[int | None]:
    """By turn: the plan that its task had after it."""
    in_force: dict[int, int] = {}
    made = {plan.turn: index for index, plan in enumerate(episode.plans)}
    found: list[int | None] = []
    for index, turn in enumerate(episode.turns):
        task = lines.task[turn.segment]
        if index in made:
            in_force[task] = made[index]
        found.append(in_force.get(task))
    return found


def _segments(trace: Trace, tree: MarkedTree, lines: Lineage) -> list[dict[str, Any]]:
    episode = trace.episode
    asked: dict[int, list[int]] = {}
    first: dict[int, int] = {}
    turns_in: list[list[Turn]] = [[] for _ in episode.segments]
    for index, turn in enumerate(episode.turns):
        first.setdefault(turn.segment, index)
        turns_in[turn.segment].append(turn)
        for number, call in enumerate(turn.calls):
            if call.child is not None:
                asked[call.child] = [index, number]
    return [
        {
            "kind": segment.kind.value,
            "parent": None if segment.parent is None else segment.parent[0],
            "task": lines.task[index],
            "depth": lines.depth[index],
            "sampled": tree.sampled[index],
            "given": max(0, trace.columns[index][1] - tree.sampled[index]),
            "critical": index in tree.segments,
            "first_turn": first.get(index),
            "asked_by": asked.get(index),
            "carried": _carried(segment, turns_in),
            "parts": section_tokens([(s.kind, s.start, s.end) for s in segment.sections], tree.sampled[index]),
        }
        for index, segment in enumerate(episode.segments[:_MOST_SEGMENTS])
    ]


def _carried(segment: Segment, turns_in: list[list[Turn]]) -> str | None:
    """The summary with which a context began; task and plan stand before it."""
    if segment.kind is not SegmentKind.AFTER_SUMMARY or segment.parent is None:
        return None
    parent, position = segment.parent
    before = bisect_right(turns_in[parent], position, key=lambda turn: turn.end)
    if not before:
        return None
    sections = split_sections(turns_in[parent][before - 1].text)
    return next((printable(text) for kind, text in sections if kind == "summary"), None)


def _mean_logprobs(trace: Trace, tokens: TokenColumns | None, shown: range) -> dict[int, float | None]:
    """Mean log-probability of each turn's tokens; the first missing ones are noted and end it."""
    means: dict[int, float | None] = {}
    if tokens is None:
        return means
    for index in shown:
        turn = trace.episode.turns[index]
        offset = trace.columns[turn.segment][0]
        try:
            means[index] = tokens.mean_logprob(offset + turn.start, turn.end - turn.start)
        except (ColumnError, OverflowError) as error:
            trace.problems.append(f"no log-probabilities: {error}")
            break
    return means


def _weights(episode: Episode) -> dict[str, float]:
    kwargs = episode.env.get("kwargs")
    weights = kwargs.get("score_weights") if isinstance(kwargs, dict) else None
    rows = weights.items() if isinstance(weights, dict) else ()
    return {printable(name): value for name, value in rows if number_or_none(value) is not None}


def _text(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _json(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False))
