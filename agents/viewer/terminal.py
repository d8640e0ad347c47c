"""Runs and episodes as text, for terminals and pipes: what models wrote never reaches the terminal as it is."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from ..report.escape import one_line, printable
from .columns import TokenColumns
from .episode_view import describe_episode
from .index import RunIndex
from .query import Query
from .trace import DamagedLine

Line = tuple[str, str]
"""Style (`""`, `bold`, `dim`, `red`, `green`, `yellow`, `cyan`) and text of one line."""
_WIDTH, _LONGEST = 100, 2000
_STYLES = {"plan": "cyan", "think": "dim", "call": "yellow", "summary": "cyan", "answer": "bold", "other": "red"}
_NOTABLE = ("replanned", "looped", "truncated", "fault", "retried", "format_error", "unsound")


def list_lines(run: RunIndex, query: Query, most: int) -> Iterator[Line]:
    """The list of a run's episodes, once all are read.

    Args:
        run: The run.
        query: Which ones.
        most: Most episodes that are listed.
    """
    run.start()
    run.wait()
    progress = run.progress()
    found = run.find(query)
    yield "bold", f"{one_line(run.name)}: {len(found):,} of {progress.lines:,} episodes"
    for problem in progress.problems:
        yield "red", one_line(problem)
    for line in found[:most].tolist():
        yield _listed(run.card(line))
    if len(found) > most:
        yield "dim", f"... and {len(found) - most:,} more"


def _listed(card: dict[str, Any]) -> Line:
    flags = card["flags"]
    if "damaged" in flags:
        return "red", f"{card['line'] + 1:>6}  DAMAGED  {one_line(card['stop_reason'])}"
    verdict = "fault" if "fault" in flags else "wrong" if "failed" in flags else "right"
    notes = " ".join(flag for flag in flags if flag in _NOTABLE and flag != verdict)
    text = (
        f"{card['line'] + 1:>6}  {verdict}  reward {card['reward']:6.3f}  {card['turns']:>3} turns  "
        f"{card['tokens']:>7,} tokens  {one_line(card['id'])[:60]}{f'  [{notes}]' if notes else ''}"
    )
    return {"right": "green", "wrong": "", "fault": "red"}[verdict], text


def find_episode(run: RunIndex, name: str) -> int | None:
    """The line of the episode with an id, the last one if there are several, or with a line number that is given."""
    run.start()
    run.wait()
    number = int(name) - 1 if name.isascii() and name.isdecimal() and len(name) < 12 else -1
    for line in reversed(run.find(Query(search=name)).tolist()):
        if run.card(line)["id"] == name[:200]:
            return int(line)
    return number if 0 <= number < run.progress().lines else None


def episode_lines(run: RunIndex, line: int) -> Iterator[Line]:
    """One episode as a page of text."""
    try:
        trace = run.trace(line)
    except DamagedLine as error:
        yield "red", f"{one_line(run.name)}, line {line + 1}: {one_line(str(error))}"
        return
    shown = describe_episode(trace, TokenColumns(run.folder), count=len(trace.episode.turns))
    yield "bold", f"{one_line(shown['id'])}  ({one_line(run.name)}, line {line + 1})"
    for problem in shown["problems"]:
        yield "red", f"! {one_line(problem)}"
    verdict = shown["fault"] or ("right" if shown["correct"] else "wrong")
    style = "green" if shown["correct"] and not shown["fault"] else "red"
    yield (
        style,
        f"{one_line(verdict)}, {shown['status']} ({one_line(shown['stop_reason'])}), reward {shown['reward']:.4g}",
    )
    yield "dim", _pairs("scores", shown["scores"])
    yield "dim", _pairs("sampled tokens", {"all": shown["sampled"], **shown["sections"], "read": shown["given"]})
    critical = shown["critical"]
    if critical["total"] != critical["tokens"]:
        yield "dim", f"critical path: {critical['tokens']:,} of {critical['total']:,} tokens"
    yield from _block("Task", shown["prompt"])
    if shown["expected"] is not None:
        yield from _block("Expected", shown["expected"])
    if shown["answer"] is not None:
        yield from _block("Answered", shown["answer"])
    plan, segment = None, 0
    for turn in shown["turns"]:
        if turn["segment"] != segment:
            segment = turn["segment"]
            yield from _segment(shown["segments"], turn, segment)
        yield from _turn(turn)
        if turn["plan"] is not None and turn["plan"] != plan and turn["plan"] < len(shown["plans"]):
            plan = turn["plan"]
            yield from _plan(shown["plans"], plan, turn["depth"])


def _segment(segments: list[dict[str, Any]], turn: dict[str, Any], index: int) -> Iterator[Line]:
    if index >= len(segments) or segments[index]["first_turn"] != turn["index"]:
        yield "dim", f"{_indent(turn)}-- back in context {index + 1}"
        return
    segment = segments[index]
    why = {
        "sub_call": "a sub-task",
        "after_summary": "begins again after a summary",
        "trimmed": "begins again, its oldest turns dropped",
    }.get(segment["kind"], "begins")
    path = ", on the critical path" if segment["critical"] and segment["kind"] == "sub_call" else ""
    yield "cyan", f"{_indent(turn)}-- context {index + 1}: {why}, {segment['given']:,} tokens read{path}"
    if segment["carried"]:
        yield from _wrapped("cyan", f"carried: {segment['carried']}", _indent(turn) + "   ")


def _turn(turn: dict[str, Any]) -> Iterator[Line]:
    logprob = "" if turn["logprob"] is None else f", mean log-probability {turn['logprob']:.2f}"
    yield "", ""
    yield "bold", f"{_indent(turn)}Turn {turn['index'] + 1}  {turn['tokens']:,} tokens{logprob}"
    for section in turn["sections"]:
        yield from _wrapped(
            _STYLES.get(section["kind"], ""), f"{section['kind']}: {section['text']}", _indent(turn) + "  "
        )
    for call in turn["calls"]:
        step = "" if call["step"] is None else f" for step {call['step']}"
        notes = [note for note in ("repeated" if call["repeated"] else "", call["error"]) if note]
        path = " (critical path)" if call["critical"] else ""
        note = f" [{one_line(', '.join(notes))}]" if notes else ""
        head = f"-> {call['name']}{step}{path}{note}: {call['arguments']}"
        yield from _wrapped("yellow", head, _indent(turn) + "  ")
    if turn["error"] is not None:
        yield "red", f"{_indent(turn)}  malformed: {one_line(turn['error'])}"
    if turn["observation"]:
        yield from _wrapped("dim", turn["observation"], _indent(turn) + "  | ")


def _plan(plans: list[dict[str, Any]], number: int, depth: int) -> Iterator[Line]:
    same = [i for i, plan in enumerate(plans) if plan["task"] == plans[number]["task"]]
    indent = "    " * min(depth, 8)
    yield "cyan", f"{indent}  plan, version {same.index(number) + 1} of {len(same)}"
    for step in plans[number]["steps"]:
        after = f" (after {', '.join(map(str, step['after']))})" if step["after"] else ""
        served = f"  <- turn {', '.join(str(turn + 1) for turn, _ in step['served_by'])}" if step["served_by"] else ""
        yield "cyan", f"{indent}    {step['number']}. {one_line(step['text'])}{after}{served}"


def _block(title: str, text: str) -> Iterator[Line]:
    yield "bold", title
    yield from _wrapped("", text, "  ")


def _wrapped(style: str, text: str, indent: str) -> Iterator[Line]:
    text = printable(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} [{len(text) - _LONGEST:,} more characters]"
    for line in text.split("\n"):
        for part in textwrap.wrap(line, _WIDTH, initial_indent=indent, subsequent_indent=indent) or [indent.rstrip()]:
            yield style, part


def _pairs(title: str, values: dict[str, float]) -> str:
    return f"{title}: " + ", ".join(f"{one_line(name)} {value:,.10g}" for name, value in values.items())


def _indent(turn: dict[str, Any]) -> str:
    return "    " * min(int(turn["depth"]), 8)


def write_lines(lines: Iterable[Line]) -> None:
    """Print lines; in colour on a terminal that has rich, plain elsewhere."""
    encoding = sys.stdout.encoding or "utf-8"
    console = None
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.text import Text

            console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
        except ImportError:
            pass
    for style, text in lines:
        text = text.encode(encoding, "replace").decode(encoding)
        if console is None:
            sys.stdout.write(f"{text}\n")
        else:
            console.print(Text(text, style=style))
