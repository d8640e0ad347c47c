"""What the list shows of an episode, and what it can be filtered by."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from enum import IntFlag

from ..episode import Episode, Status
from .call_tree import lineage
from .cut_json import LONGEST_TEXT
from .trace import Trace

_PROMPT, _ANSWER, _SEARCHED = 200, 80, 2000
"""Characters of the task and the answer in the list, and of the task in the search."""


class Flag(IntFlag):
    """What an episode, or a damaged line, is."""

    FAILED = 1
    """Not correct: the score `correct`, or the reward where there is none, is less than 1."""
    REPLANNED = 2
    """More than one plan in the episode's own contexts."""
    LOOPED = 4
    """The same call with the same arguments, twice or more in one task."""
    TRUNCATED = 8
    FAULT = 16
    RETRIED = 32
    """A fault of which a later line has another attempt."""
    FORMAT_ERROR = 64
    SUMMARISED = 128
    """A context began again: after a summary, or trimmed."""
    SUB_CALLS = 256
    UNSOUND = 512
    """Parts of the line are missing or wrong; see the episode."""
    DAMAGED = 1024
    """Nothing of the line can be shown."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of the file in a few numbers and short texts."""

    flags: Flag
    id: str
    task_id: str
    prompt: str
    answer: str | None
    stop_reason: str
    searched: str
    """What a search looks into: id and task, letters folded, spaces single."""
    reward: float = 0.0
    tokens: int = 0
    turns: int = 0
    difficulty: float | None = None
    scores: dict[str, float] | None = None


def summarise(trace: Trace) -> Summary:
    """Summarise what is sound of an episode."""
    episode = trace.episode
    difficulty = number_or_none(episode.task.get("difficulty"))
    prompt: str = episode.task["prompt"]
    flags = _flags(episode)
    if trace.problems:
        flags |= Flag.UNSOUND
    return Summary(
        flags=flags,
        id=episode.id[:_PROMPT],
        task_id=episode.task_id,
        prompt=prompt[:_PROMPT],
        answer=None if episode.answer is None else episode.answer[:_ANSWER],
        stop_reason=episode.stop_reason[:_ANSWER],
        searched=fold(f"{episode.id[:_SEARCHED]} {prompt[:_SEARCHED]}"),
        reward=episode.reward,
        tokens=sum(turn.end - turn.start for turn in episode.turns),
        turns=len(episode.turns),
        difficulty=difficulty,
        scores=episode.scores,
    )


def damaged(line: bytes | bytearray, reason: str) -> Summary:
    """Summarise a line of which nothing can be read."""
    start = bytes(line[:_PROMPT]).decode("utf-8", "replace")
    return Summary(
        flags=Flag.DAMAGED, id="(damaged line)", task_id="", prompt=start, answer=None, stop_reason=reason,
        searched=fold(start),
    )  # fmt: skip


def is_correct(episode: Episode) -> bool:
    """Whether the score `correct` is 1 (the reward, where there is no such score)."""
    return episode.scores.get("correct", episode.reward) >= 1.0


def number_or_none(value: object) -> float | None:
    """The value, when it is a number that every JSON reader takes."""
    return value if isinstance(value, int | float) and abs(value) < 1e300 else None


def fold(text: str) -> str:
    """The text as searches compare it."""
    return " ".join(text.casefold().split())


def repeated_calls(episode: Episode) -> set[tuple[int, int]]:
    """(turn, number in it) of every call that was made before in its task, with the same arguments."""
    if sum(len(turn.calls) for turn in episode.turns) < 2:
        return set()
    seen: Counter[tuple[int, str, str]] = Counter()
    tasks = lineage(episode).task
    repeated = set()
    for index, turn in enumerate(episode.turns):
        for number, call in enumerate(turn.calls):
            key = (tasks[turn.segment], call.name, json.dumps(call.arguments, sort_keys=True)[:LONGEST_TEXT])
            if seen[key]:
                repeated.add((index, number))
            seen[key] += 1
    return repeated


def _flags(episode: Episode) -> Flag:
    flags = Flag(0)
    if episode.status is Status.FAULT:
        flags |= Flag.FAULT
    elif not is_correct(episode):
        flags |= Flag.FAILED
    if episode.status is Status.TRUNCATED:
        flags |= Flag.TRUNCATED
    if len(episode.plans) > 1:
        depth = lineage(episode).depth
        own = sum(not depth[episode.turns[plan.turn].segment] for plan in episode.plans)
        flags |= Flag.REPLANNED if own > 1 else Flag(0)
    if repeated_calls(episode):
        flags |= Flag.LOOPED
    if any(turn.error is not None for turn in episode.turns):
        flags |= Flag.FORMAT_ERROR
    if len(episode.segments) > 1:
        kinds = {segment.kind.value for segment in episode.segments}
        flags |= Flag.SUMMARISED if kinds & {"after_summary", "trimmed"} else Flag(0)
    if any(call.model is not None for turn in episode.turns for call in turn.calls):
        flags |= Flag.SUB_CALLS
    return flags
