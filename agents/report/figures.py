"""The charts of the page: what is drawn, from report cards and training histories."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evaluation import DifficultyLevel, Estimate, ReportCard
from .charts import ORACLE_SLOT, LineChart, Point, Series, draw_lines, legend_mark
from .content import Curve, Report
from .escape import escape
from .metrics import format_interval, format_number, format_value

_MOST_POINTS = 300
"""Points of a training curve that are drawn; more cannot be told apart."""
_FEW_POINTS = 24
"""Training curves with more points are drawn as a running mean over the raw values."""


def difficulty_figures(report: Report, slots: Mapping[str, int]) -> str:
    """Sampled tokens and accuracy against difficulty."""
    cards = {name: card for name, card in report.runs.items() if card.by_difficulty}
    if not cards:
        return ""
    lines: list[tuple[str, int, ReportCard]] = [(name, slots[name], card) for name, card in cards.items()]
    oracle = [] if report.oracle is None else [("What the task needs (oracle)", ORACLE_SLOT, report.oracle)]
    keys = _legend([(name, slot) for name, slot, _ in [*lines, *oracle]])
    tokens = _level_figure(
        "Sampled tokens per episode", "tokens-by-difficulty", [*lines, *oracle], lambda level: level.sampled_tokens
    )
    accuracy = _level_figure("Accuracy", "accuracy-by-difficulty", lines, lambda level: level.accuracy, percent=True)
    return f'{keys}<div class="charts">{tokens}{accuracy}</div>'


def training_figures(report: Report, slots: Mapping[str, int]) -> str:
    """One chart for each curve that at least one history holds."""
    figures, drawn, smoothed = [], set(), False
    for number, curve in enumerate(report.curves):
        series = []
        for name, history in report.histories.items():
            points = history_points(history, curve.key)
            if points:
                drawn.add(name)
                smooth = running_mean(points) if len(points) > _FEW_POINTS else points
                smoothed |= smooth is not points
                series.append(
                    Series(
                        name=name,
                        slot=slots[name],
                        points=_thin(smooth),
                        faint=_thin(points) if smooth is not points else (),
                        marks=smooth is points,
                    )
                )
        if series:
            figures.append(_training_figure(f"training-{number}", curve, series))
    if not figures:
        return ""
    keys = _legend([(name, slots[name]) for name in report.histories if name in drawn])
    note = '<p class="soft">Thin: every logged step. Thick: their running mean.</p>' if smoothed else ""
    return f'{keys}<div class="charts">{"".join(figures)}</div>{note}'


def history_points(history: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """The values of one quantity by step, in order; of a step that was logged twice (a resumed run) the last counts."""
    values: dict[float, float] = {}
    for entry in history:
        step, value = entry.get("step"), entry.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value):
            values[float(step)] = float(value)
    return [Point(x=step, y=values[step]) for step in sorted(values)]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """The mean of each point and its neighbours, a twentieth of the curve to each side."""
    reach = max(1, len(points) // 20)
    means = []
    for i, point in enumerate(points):
        near = points[max(0, i - reach) : i + reach + 1]
        means.append(Point(x=point.x, y=math.fsum(p.y for p in near) / len(near)))
    return means


def _thin(points: Sequence[Point]) -> Sequence[Point]:
    if len(points) <= _MOST_POINTS:
        return points
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(_MOST_POINTS)]


def _training_figure(chart_id: str, curve: Curve, series: Sequence[Series]) -> str:
    chart = LineChart(
        id=chart_id,
        title=f"{curve.title} over training",
        x_label="Training step",
        series=series,
        percent=curve.percent,
        from_zero="length" in curve.key or "token" in curve.key,
    )
    return f"<figure><figcaption><h3>{escape(curve.title)}</h3></figcaption>{draw_lines(chart)}</figure>"


def _level_figure(
    title: str,
    chart_id: str,
    lines: Sequence[tuple[str, int, ReportCard]],
    pick: Callable[[DifficultyLevel], Estimate],
    percent: bool = False,
) -> str:
    series = []
    for name, slot, card in lines:
        points = []
        for level in card.by_difficulty:
            estimate = pick(level)
            if estimate.value is not None:
                points.append(Point(x=level.difficulty, y=estimate.value, low=estimate.low, high=estimate.high))
        if points:
            series.append(Series(name=name, slot=slot, points=points))
    chart = LineChart(
        id=chart_id,
        title=f"{title} against difficulty",
        x_label="Difficulty",
        series=series,
        percent=percent,
        from_zero=True,
    )
    return (
        f"<figure><figcaption><h3>{title}</h3></figcaption>{draw_lines(chart)}"
        f"<details><summary>The numbers</summary>{_level_table(title, lines, pick, percent)}</details></figure>"
    )


def _level_table(
    title: str,
    lines: Sequence[tuple[str, int, ReportCard]],
    pick: Callable[[DifficultyLevel], Estimate],
    percent: bool,
) -> str:
    columns = [{level.difficulty: pick(level) for level in card.by_difficulty} for _, _, card in lines]
    rows = []
    for difficulty in sorted({at for column in columns for at in column}):
        cells = "".join(estimate_cell(column.get(difficulty, Estimate()), percent) for column in columns)
        rows.append(f'<tr><th scope="row">{format_number(difficulty).removesuffix(".00")}</th>{cells}</tr>')
    head = '<th scope="col">Difficulty</th>' + "".join(f'<th scope="col">{escape(name)}</th>' for name, _, _ in lines)
    return (
        f'<div class="scroll" role="region" aria-label="{title} by difficulty" tabindex="0"><table>'
        f"<caption><span>{title} by difficulty</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def estimate_cell(estimate: Estimate, percent: bool = False) -> str:
    """A number and its interval as a cell of a table."""
    cell = f"<td>{format_value(estimate, percent)} <small>{format_interval(estimate, percent)}</small></td>"
    return cell.replace("-", "\N{MINUS SIGN}")


def _legend(entries: Sequence[tuple[str, int]]) -> str:
    items = "".join(f"<li>{legend_mark(slot)}{escape(name)}</li>" for name, slot in entries)
    return f'<ul class="legend" aria-label="Legend">{items}</ul>'
