"""One line of `episodes.jsonl`, read as far as it is sound: what is missing or wrong is left out and said."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ...envs.tools import CallResult
from ..episode import Episode, PlanVersion, SectionSpan, Segment, SegmentKind, Status, Turn
from ..episode_rows import SCHEMA
from .cut_json import LONGEST_TEXT, cut_texts
from .lines import LONGEST_LINE

T = TypeVar("T")
MOST_PARSED = 6 << 20
"""Bytes of a line, its long texts cut, that are parsed: as objects they may take thirty times the memory."""
_MOST_PROBLEMS = 20
_KNOWN = {f.name for f in fields(Episode)} | {"schema"}


class DamagedLine(ValueError):
    """Nothing of a line can be shown; the message says why."""


@dataclass(slots=True)
class Trace:
    """An episode without its tokens, and where they stand."""

    episode: Episode
    columns: list[tuple[int, int]] = field(default_factory=list)
    """By segment: its first entry in the token columns, and how many it has."""
    problems: list[str] = field(default_factory=list)
    """What is not sound, a sentence each."""


def read_line(line: bytes | bytearray) -> Trace:
    """Read a line of `episodes.jsonl`.

    Raises:
        DamagedLine: it is no JSON object, or too large.
    """
    if len(line) >= LONGEST_LINE:
        raise DamagedLine(f"the line is longer than {LONGEST_LINE >> 20} MB")
    size = len(line)
    for longest in (LONGEST_TEXT, LONGEST_TEXT >> 3, LONGEST_TEXT >> 6):
        short, cut = cut_texts(line, longest)
        if len(short) <= MOST_PARSED:
            break
    else:
        raise DamagedLine(
            f"the line has {size >> 20} MB, in more parts than can be shown at once: at most {MOST_PARSED >> 20} MB"
        )
    try:
        row = json.loads(short.decode("utf-8", "replace"))
    except RecursionError:
        raise DamagedLine("the line is nested too deep to be an episode") from None
    except ValueError as error:
        raise DamagedLine(f"the line is not JSON: {str(error)[:200]}") from None
    trace = read_trace(row)
    if cut:
        texts = "1 long text is" if cut == 1 else f"{cut} long texts are"
        trace.problems.append(
            f"{texts} cut: the first {longest >> 10} KB are shown, the raw line has all {size:,} bytes"
        )
    return trace


def read_trace(row: Any) -> Trace:
    """Read a parsed row.

    Raises:
        DamagedLine: it is no object.
    """
    if not isinstance(row, dict):
        raise DamagedLine(f"expected an episode, found {_kind(row)}")
    trace = _Reader().read(row)
    if len(trace.problems) > _MOST_PROBLEMS:
        more = len(trace.problems) - _MOST_PROBLEMS
        trace.problems[_MOST_PROBLEMS:] = [f"and {more:,} more of this kind"]
    return trace


class _Reader:
    """Takes values of the expected kind and notes all others."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, row: dict[str, Any]) -> Trace:
        schema = row.get("schema")
        if schema != SCHEMA:
            unknown = sorted(set(row) - _KNOWN)
            extra = f"; not shown: {', '.join(unknown)[:200]}" if unknown else ""
            self.problems.append(
                f"written with schema {str(schema)[:80]!r}, this version reads {SCHEMA!r}: what both know is "
                f"shown{extra}"
            )
        task = self.take(row, "task", dict, {})
        task = {**task, "prompt": self.take(task, "prompt", str, "", "task.")}
        segments, columns = self.segments(self.take(row, "segments", list, []))
        turns = self.turns(self.take(row, "turns", list, []), segments)
        status = self.take(row, "status", str, Status.COMPLETED.value)
        if status not in list(Status):
            self.problems.append(f"status: {status[:80]!r} is not known here")
        episode = Episode(
            id=self.take(row, "id", str, "(no id)"),
            task_id=self.take(row, "task_id", str, ""),
            attempt=self.take(row, "attempt", int, 0),
            env=self.take(row, "env", dict, {}),
            task=task,
            seed=self.take(row, "seed", int, 0),
            window=self.take(row, "window", dict, {}) if "window" in row else {},  # older rows have none
            segments=segments,
            turns=turns,
            plans=self.plans(self.take(row, "plans", list, []), len(turns)),
            scores=self.numbers(self.take(row, "scores", dict, {}), "scores"),
            reward=self.number(row, "reward"),
            answer=self.optional(row, "answer", str),
            usage=self.numbers(self.take(row, "usage", dict, {}), "usage"),
            stop_reason=self.take(row, "stop_reason", str, ""),
            status=Status(status) if status in list(Status) else Status.COMPLETED,
            fault=self.optional(row, "fault", str),
            retries=self.take(row, "retries", int, 0),
        )
        return Trace(episode, columns, self.problems)

    def segments(self, rows: list[Any]) -> tuple[list[Segment], list[tuple[int, int]]]:
        segments, columns = [], []
        for index, row in enumerate(rows):
            where = f"segments[{index}]"
            row = self.entry(row, where)
            kind = self.take(row, "kind", str, "root", f"{where}.")
            if kind not in list(SegmentKind):
                self.problems.append(f"{where}.kind: {kind[:80]!r} is not known here")
                kind = SegmentKind.TRIMMED
            columns.append(
                (
                    max(0, self.take(row, "offset", int, 0, f"{where}.")),
                    max(0, self.take(row, "length", int, 0, f"{where}.")),
                )
            )
            spans = [
                SectionSpan(span[0], max(0, span[1]), max(0, span[1], span[2]))
                for span in self.take(row, "sections", list, [], f"{where}.")
                if isinstance(span, list) and [type(value) for value in span] == [str, int, int]
            ]
            parent = self.parent(row.get("parent"), index, where)
            if parent is None or kind == SegmentKind.ROOT:
                kind, parent = SegmentKind.ROOT, None
            segments.append(Segment(kind=SegmentKind(kind), parent=parent, sections=spans))
        return segments or [Segment()], columns or [(0, 0)]

    def parent(self, value: Any, index: int, where: str) -> tuple[int, int] | None:
        if value is None:
            return None
        if isinstance(value, list) and [type(v) for v in value] == [int, int] and 0 <= value[0] < index:
            return value[0], value[1]
        self.problems.append(f"{where}.parent: expected an earlier segment, found {str(value)[:80]}")
        return None

    def turns(self, rows: list[Any], segments: list[Segment]) -> list[Turn]:
        turns = []
        for index, row in enumerate(rows):
            where = f"turns[{index}]"
            row = self.entry(row, where)
            segment = self.take(row, "segment", int, 0, f"{where}.")
            if not 0 <= segment < len(segments):
                self.problems.append(f"{where}.segment: there is no segment {segment}")
                segment = 0
            start = max(0, self.take(row, "start", int, 0, f"{where}."))
            calls = self.take(row, "calls", list, [], f"{where}.")
            turns.append(
                Turn(
                    text=self.take(row, "text", str, "", f"{where}."),
                    observation=self.take(row, "observation", str, "", f"{where}."),
                    segment=segment,
                    start=start,
                    end=max(start, self.take(row, "end", int, start, f"{where}.")),
                    calls=[self.call(c, f"{where}.calls[{i}]", segment, segments) for i, c in enumerate(calls)],
                    error=self.optional(row, "error", str),
                    seconds=self.number(row, "seconds"),
                    sampling_seconds=self.number(row, "sampling_seconds"),
                )
            )
        return turns

    def call(self, row: Any, where: str, segment: int, segments: list[Segment]) -> CallResult:
        row = self.entry(row, where)
        child = self.optional(row, "child", int)
        if child is not None and not segment < child < len(segments):
            self.problems.append(f"{where}.child: there is no later segment {child}")
            child = None
        return CallResult(
            name=self.take(row, "name", str, "(no name)", f"{where}."),
            arguments=self.take(row, "arguments", dict, {}, f"{where}."),
            step=self.optional(row, "step", int),
            output=self.take(row, "output", str, "", f"{where}."),
            error=self.optional(row, "error", str),
            model=self.optional(row, "model", str),
            child=child,
            sampled_tokens=max(0, self.optional(row, "sampled_tokens", int) or 0),
            cost=self.number(row, "cost") if "cost" in row else 0.0,
            stop_reason=self.optional(row, "stop_reason", str),
        )

    def plans(self, rows: list[Any], turns: int) -> list[PlanVersion]:
        plans = []
        for index, row in enumerate(rows):
            where = f"plans[{index}]"
            row = self.entry(row, where)
            turn = self.take(row, "turn", int, 0, f"{where}.")
            if not 0 <= turn < turns:
                self.problems.append(f"{where}.turn: there is no turn {turn}")
                continue
            steps = []
            for number, step in enumerate(self.take(row, "steps", list, [], f"{where}.")):
                inner = f"{where}.steps[{number}]"
                step = self.entry(step, inner)
                after = self.take(step, "after", list, [], f"{inner}.")
                steps.append(
                    {
                        "number": self.take(step, "number", int, number + 1, f"{inner}."),
                        "text": self.take(step, "text", str, "", f"{inner}."),
                        "after": [a for a in after if isinstance(a, int)],
                    }
                )
            plans.append(PlanVersion(turn=turn, steps=steps))
        return plans

    def entry(self, row: Any, where: str) -> dict[str, Any]:
        if isinstance(row, dict):
            return row
        self.problems.append(f"{where}: expected an object, found {_kind(row)}")
        return {}

    def take(self, row: dict[str, Any], name: str, kind: type[T], default: T, where: str = "") -> T:
        value = row.get(name)
        if type(value) is kind:
            return value
        found = _kind(value) if name in row else "nothing"
        if row or not where:  # an entry that is no object at all has been noted already
            self.problems.append(f"{where}{name}: expected {_NAMES[kind]}, found {found}")
        return default

    def optional(self, row: dict[str, Any], name: str, kind: type[T]) -> T | None:
        value = row.get(name)
        if value is None or type(value) is kind:
            return value
        self.problems.append(f"{name}: expected {_NAMES[kind]} or null, found {_kind(value)}")
        return None

    def number(self, row: dict[str, Any], name: str) -> float:
        value = row.get(name)
        if isinstance(value, int | float) and (number := _finite(value)) is not None:
            return number
        if row:
            self.problems.append(f"{name}: expected a finite number, found {str(value)[:40]}")
        return 0.0

    def numbers(self, row: dict[str, Any], where: str) -> dict[str, float]:
        sound = {}
        for name, value in row.items():
            number = _finite(value) if isinstance(value, int | float) else None
            if number is None:
                self.problems.append(f"{where}.{name[:40]}: expected a finite number, found {str(value)[:40]}")
            else:
                sound[name] = number
        return sound


_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return _NAMES.get(type(value), "true or false" if isinstance(value, bool) else "a number")


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
