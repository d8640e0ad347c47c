"""The report as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluation import ReportCard
from .content import Target
from .escape import one_line
from .metrics import format_interval, format_number, format_value, metrics_of


def format_summary(
    runs: Mapping[str, ReportCard], *, title: str = "", targets: Sequence[Target] = (), oracle: ReportCard | None = None
) -> str:
    """A table of one or more runs side by side, numbers with 95 % intervals.

    Args:
        runs: Report cards by name, before first and after second.
        title: A line above.
        targets: Thresholds, with what became of them.
        oracle: The card of a policy that spends what tasks need, for the table by difficulty.
    """
    parts = [one_line(title)] if title else []
    parts += [_table(_main_rows(runs))]
    if any(card.by_difficulty for card in runs.values()):
        columns = dict(runs) if oracle is None else {**runs, "oracle": oracle}
        parts.append("By difficulty: accuracy, sampled tokens\n" + _table(_difficulty_rows(columns)))
    if targets:
        words = {True: "met", False: "MISSED", None: "not measured"}
        rows = [[words[t.met], one_line(t.name), one_line(t.value), f"target {one_line(t.target)}"] for t in targets]
        parts.append("Targets\n" + _table(rows, left=4))
    return ("\n\n".join(parts) + "\n").replace("\xa0", " ")


def _main_rows(runs: Mapping[str, ReportCard]) -> list[list[str]]:
    rows = [["", *(one_line(name) for name in runs)], ["Episodes", *(_count(card) for card in runs.values())]]
    if any(card.faults for card in runs.values()):
        rows.append(["Faults (left out)", *(str(card.faults) for card in runs.values())])
    group = ""
    for metric in metrics_of(runs.values()):
        if metric.group != group:
            group = metric.group
            rows.append([group])
        cells = []
        for card in runs.values():
            estimate = metric.pick(card)
            interval = format_interval(estimate, metric.percent)
            cells.append(format_value(estimate, metric.percent) + (f"  [{interval}]" if interval else ""))
        rows.append([f"  {metric.label}", *cells])
    return rows


def _difficulty_rows(runs: Mapping[str, ReportCard]) -> list[list[str]]:
    rows = [["", *(one_line(name) for name in runs)]]
    levels = {name: {level.difficulty: level for level in card.by_difficulty} for name, card in runs.items()}
    for difficulty in sorted({at for run in levels.values() for at in run}):
        cells = []
        for run in levels.values():
            level = run.get(difficulty)
            cells.append(
                ""
                if level is None
                else f"{format_value(level.accuracy, True):>7}  {format_value(level.sampled_tokens):>6}"
            )
        rows.append([f"  {format_number(difficulty).removesuffix('.00')}", *cells])
    return rows


def _count(card: ReportCard) -> str:
    return f"{card.episodes:,} ({card.tasks:,} tasks)"


def _table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two spaces apart: the first `left` flush left, the others flush right."""
    count = max(len(row) for row in rows)
    full = [row for row in rows if len(row) == count]
    widths = [max(len(row[i]) for row in full) for i in range(count)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)
