"""Line charts as inline SVG: no script, colours from the page's style sheet, readable without colour.

A series has a slot: its colour and the shape of its marks. Every mark carries its numbers as a native tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .escape import escape
from .metrics import format_number

SLOTS = 6
ORACLE_SLOT = -1
_WIDTH, _HEIGHT = 440, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a series, with its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line."""

    name: str
    slot: int
    points: Sequence[Point]
    faint: Sequence[Point] = field(default=())
    """The raw values, drawn thin, where `points` is their running mean."""
    marks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """A chart.

    Args:
        id: Unique on the page.
        title: What it shows, for people who cannot see it too.
        x_label: Name of the horizontal axis.
        series: The lines.
        percent: Whether values are shares: the axis then runs from 0 to 100 %.
        from_zero: Whether the vertical axis starts at 0.
    """

    id: str
    title: str
    x_label: str
    series: Sequence[Series]
    percent: bool = False
    from_zero: bool = False


def draw_lines(chart: LineChart) -> str:
    """The chart as an `<svg>` element."""
    xs = [p.x for s in chart.series for p in (*s.points, *s.faint)]
    ys = [v for s in chart.series for p in (*s.points, *s.faint) for v in (p.y, p.low, p.high) if v is not None]
    x_ticks = ticks(min(xs), max(xs), 8, whole=True)
    if chart.percent:
        y_ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    else:
        y_ticks = ticks(min(0.0, *ys) if chart.from_zero else min(ys), max(ys), 5)
    x_scale = _Scale(min(xs), max(xs), _LEFT + 8, _WIDTH - _RIGHT - 8)
    y_scale = _Scale(min(y_ticks[0], *ys), max(y_ticks[-1], *ys), _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{chart.id}-title {chart.id}-desc">',
        f'<title id="{chart.id}-title">{escape(chart.title)}</title>',
        f'<desc id="{chart.id}-desc">{escape(describe(chart))}</desc>',
    ]
    for tick in y_ticks:
        y = y_scale(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y}" dy=".35em" text-anchor="end">{_tick(tick, chart)}</text>'
        )
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in x_ticks:
        parts.append(
            f'<text class="tick" x="{x_scale(tick)}" y="{base + 17}" text-anchor="middle">{_short(tick)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    parts += [_draw_series(series, chart, x_scale, y_scale) for series in chart.series]
    return "".join([*parts, "</svg>"])


def legend_mark(slot: int) -> str:
    """A short piece of a line with its mark, for legends."""
    mark = "" if slot == ORACLE_SLOT else _mark(slot, 13, 7, "")
    return (
        f'<svg class="key {_class(slot)}" viewBox="0 0 26 14" aria-hidden="true">'
        f'<path class="line" d="M1 7H25"/>{mark}</svg>'
    )


def describe(chart: LineChart) -> str:
    """The chart in words: where each line begins and ends."""
    sentences = []
    for series in chart.series:
        first, last = series.points[0], series.points[-1]
        start, end = (f"{_value(p.y, chart)} at {_short(p.x)}" for p in (first, last))
        sentences.append(f"{series.name}: {start}, {end}.")
    return f"Over {chart.x_label.lower()}. " + " ".join(sentences)


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """At most about `most` round numbers that span `low` to `high`.

    Args:
        low: The smallest value.
        high: The largest value.
        most: How many there is room for.
        whole: Stay within the values and use whole steps, as for counts.
    """
    if high - low < 1e-9 * max(1.0, abs(high)):
        return [low] if whole else [low - 0.5, low, low + 0.5]
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    if whole:
        step = max(1.0, step)
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = 0.5 if span == 0 else (value - self.low) / span
        return round(self.start + share * (self.end - self.start), 1)


def _draw_series(series: Series, chart: LineChart, x: _Scale, y: _Scale) -> str:
    parts = [f'<g class="{_class(series.slot)}">']
    bounded = [(p.x, p.low, p.high) for p in series.points if p.low is not None and p.high is not None]
    if len(bounded) > 1:
        outline = [(x(at), y(high)) for at, _, high in bounded] + [(x(at), y(low)) for at, low, _ in reversed(bounded)]
        parts.append(f'<path class="band" d="{_path(outline)}Z"/>')
    if series.faint:
        parts.append(f'<path class="faint" d="{_path((x(p.x), y(p.y)) for p in series.faint)}"/>')
    parts.append(f'<path class="line" d="{_path((x(p.x), y(p.y)) for p in series.points)}"/>')
    if series.marks:
        for p in series.points:
            interval = (
                "" if p.low is None or p.high is None else f" ({_value(p.low, chart)} to {_value(p.high, chart)})"
            )
            text = f"{series.name}, {chart.x_label.lower()} {_short(p.x)}: {_value(p.y, chart)}{interval}"
            parts.append(_mark(series.slot, x(p.x), y(p.y), f"<title>{escape(text)}</title>"))
    return "".join([*parts, "</g>"])


def _mark(slot: int, x: float, y: float, title: str) -> str:
    """A circle, square, triangle or diamond of about equal weight."""
    shape = slot % 4
    if shape == 0:
        return f'<circle class="mark" cx="{x}" cy="{y}" r="3.6">{title}</circle>'
    if shape == 1:
        return f'<rect class="mark" x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4">{title}</rect>'
    corners = ((0, -4.4), (4.2, 3.2), (-4.2, 3.2)) if shape == 2 else ((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0))
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark" points="{points}">{title}</polygon>'


def _class(slot: int) -> str:
    return "oracle" if slot == ORACLE_SLOT else f"s{slot % SLOTS}"


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _value(value: float, chart: LineChart) -> str:
    return f"{100 * value:.1f}\xa0%" if chart.percent else format_number(value)


def _tick(value: float, chart: LineChart) -> str:
    return f"{100 * value:.0f}\N{NARROW NO-BREAK SPACE}%" if chart.percent else _short(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"
