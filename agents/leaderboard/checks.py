"""What must hold of a recorded episode before anything is replayed, and where replaying texts sees too little."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

from ...envs.budgets import Budget
from ...envs.protocol import parse_turn
from ...envs.summaries import SUMMARY_DUE, check_summary
from ...envs.tool_env import ToolEnv
from ..context_format import ContextFormat
from ..episode import Episode, Segment, SegmentKind, Status, Turn

_ROUNDING = 1e-3
"""Log-probabilities of half precision may end this far above 0. Unknown ones are NaN, which is not above anything."""


def check_tokens(episode: Episode, limit: int | None, max_turn_tokens: int) -> Iterator[str]:
    """Whether turns, segments and counts of tokens fit together.

    Args:
        episode: The episode.
        limit: Most tokens of a context.
        max_turn_tokens: Most sampled tokens of a turn.
    """
    of_segment: dict[int, list[Turn]] = defaultdict(list)
    for number, turn in enumerate(episode.turns):
        if turn.segment >= len(episode.segments):
            yield f"turn {number} lies in segment {turn.segment}, which does not exist"
            return
        of_segment[turn.segment].append(turn)
        if turn.end - turn.start > max_turn_tokens:
            spent = turn.end - turn.start
            yield f"turn {number}: budget exceeded: {spent} sampled tokens, the suite allows {max_turn_tokens}"
        if limit is not None and turn.end > limit:
            yield f"turn {number}: budget exceeded: its context has {turn.end} tokens, the window is {limit}"
    for number, segment in enumerate(episode.segments):
        parent = segment.parent
        if (parent is None) != (number == 0) or (segment.kind is SegmentKind.ROOT) != (number == 0):
            yield f"segment {number} is no part of the tree: kind {segment.kind}, parent {parent}"
            return
        if parent is not None and not (
            0 <= parent[0] < number and 0 <= parent[1] <= len(episode.segments[parent[0]].token_ids)
        ):
            yield f"segment {number} begins in segment {parent[0]} at {parent[1]}, which is no place before it"
            return
        if segment.sampled != _mask(segment, of_segment[number]):
            yield f"segment {number}: the tokens marked as sampled are not those of its turns"
        elif any(map(_ROUNDING.__lt__, segment.logprobs)):
            yield f"segment {number}: the log-probability of a token is above 0"
    context = sum(turn.end for turn in episode.turns)
    if episode.usage.get("context_tokens") != context:
        yield f"usage: recorded {episode.usage.get('context_tokens')} context tokens, its turns have {context}"
    seconds = episode.usage.get("seconds", 0.0)
    if not math.isfinite(seconds) or seconds < 0:
        yield f"usage: {seconds} seconds"


def check_texts(episode: Episode, env: ToolEnv, form: ContextFormat | None) -> Iterator[str]:
    """Whether plans, sections, errors and calls are those that the turns' texts spell.

    For episodes that are replayed as texts. With a format, whether the texts are those that the tokens spell too.

    Args:
        episode: The episode.
        env: An instance of its environment.
        form: The format of its contexts; None when it is not known.
    """
    yield from check_decoding(episode, form)
    planned: set[int] = set()
    plans = []
    summaries = episode.window.get("policy") == "learned"
    for number, turn in enumerate(episode.turns):
        segment = episode.segments[turn.segment]
        task = episode.task_of(turn.segment)
        parsed = parse_turn(turn.text, env.codec, env.mode, task not in planned)
        check_summary(parsed, summaries, turn.error == SUMMARY_DUE)
        if (parsed.error.kind if parsed.error else None) != turn.error:
            yield f"turn {number}: recorded with format error {turn.error!r}, its text has {parsed.error}"
        if parsed.error is None and parsed.plan is not None:
            planned.add(task)
            steps = [{"number": s.number, "text": s.text, "after": list(s.after)} for s in parsed.plan.steps]
            plans.append((number, steps))
        spans = [span for span in segment.sections if turn.start <= span.start and span.end <= turn.end]
        if [span.kind for span in spans] != [str(section.kind) for section in parsed.sections]:
            yield f"turn {number}: the recorded sections are not those of its text"
        if any(a.end > b.start for a, b in itertools.pairwise(spans)) or any(s.end < s.start for s in spans):
            yield f"turn {number}: its sections overlap"
        wanted = [(call.name, call.step) for call in parsed.calls] if parsed.error is None else []
        if [(call.name, call.step) for call in turn.calls] != wanted:
            yield f"turn {number}: the recorded calls are not those of its text"
        elif turn.calls and env.codec.write_observation([call.output for call in turn.calls]) != turn.observation:
            yield f"turn {number}: the observation is not what its calls gave back"
    if [(plan.turn, plan.steps) for plan in episode.plans] != plans:
        yield "the recorded plans are not those of the turns"
    count = sum(len(segment.sections) for segment in episode.segments)
    inside = sum(_inside(episode, index) for index in range(len(episode.segments)))
    if count != inside:
        yield "a section lies outside the turns"
    yield from _check_counts(episode)


def check_decoding(episode: Episode, form: ContextFormat | None) -> Iterator[str]:
    """Whether the texts of the turns are those that the tokens spell."""
    if form is None:
        return
    for number, turn in enumerate(episode.turns):
        token_ids = episode.segments[turn.segment].token_ids[turn.start : turn.end]
        if token_ids and token_ids[-1] in form.stop_token_ids:
            token_ids = token_ids[:-1]
        if "".join(form.tokenizer.pieces(token_ids)) != turn.text:
            yield f"turn {number}: the text is not what its tokens say"


def check_ending(episode: Episode) -> Iterator[str]:
    """Whether status and stop reason fit."""
    answered = episode.stop_reason == "answered"
    if (episode.status is Status.COMPLETED) != answered or (episode.answer is not None) != answered:
        yield f"status {episode.status}, stop reason {episode.stop_reason!r} and the answer do not fit together"
    if episode.fault is not None:
        yield "an episode that is no fault names a fault"


def check_budget(episode: Episode, budget: Budget) -> Iterator[str]:
    """Whether an episode that was not ended by a budget used more than it allows."""
    usage = episode.usage
    for name in ("turns", "sub_calls", "tool_calls", "sampled_tokens"):
        limit = getattr(budget, name)
        ended_by_it = name in ("tool_calls", "sampled_tokens") and episode.stop_reason == name
        if limit is not None and usage.get(name, 0) > limit and not ended_by_it:
            yield f"budget exceeded: {usage[name]:g} {name.replace('_', ' ')}, allowed are {limit:g}"
    if budget.seconds is not None and episode.stop_reason != "seconds":
        own = [turn for turn in episode.turns if not episode.depth_of(turn.segment)]
        spent = sum(turn.seconds + turn.sampling_seconds for turn in own)
        if spent > 1.01 * budget.seconds + 0.1:  # clocks are read a little before and after a turn
            yield f"budget exceeded: {spent:.1f} seconds, allowed are {budget.seconds:g}"


def _check_counts(episode: Episode) -> Iterator[str]:
    own = [turn for turn in episode.turns if not episode.depth_of(turn.segment)]
    calls = [call for turn in own for call in turn.calls]
    for name, found in (
        ("tool_calls", len(calls)),
        ("failed_calls", sum(call.error is not None for call in calls)),
        ("format_errors", sum(turn.error is not None for turn in own)),
    ):
        if episode.usage.get(name) != found:
            yield f"usage: recorded {episode.usage.get(name)} {name.replace('_', ' ')}, the turns have {found}"


def _inside(episode: Episode, index: int) -> int:
    spans = episode.segments[index].sections
    turns = [turn for turn in episode.turns if turn.segment == index]
    return sum(any(t.start <= span.start and span.end <= t.end for t in turns) for span in spans)


def _mask(segment: Segment, turns: list[Turn]) -> list[int] | None:
    """1 where a turn lies; None when the turns do not lie in it one after the other."""
    mask, position = [0] * len(segment.token_ids), 0
    for turn in turns:
        if not position < turn.start < turn.end <= len(mask):
            return None
        mask[turn.start : turn.end] = [1] * (turn.end - turn.start)
        position = turn.end - 1
    return mask
