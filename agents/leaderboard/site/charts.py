"""The charts of the leaderboard: accuracy against cost, and bars by trait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...evaluation import Estimate, ReportCard
from ...report.charts import ticks
from ...report.escape import escape
from ...report.metrics import format_number

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 46


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A run in the chart of accuracy against cost."""

    label: str
    cost: float
    accuracy: float
    marked: bool = False


def draw_costs(
    chart_id: str, title: str, x_label: str, dots: Sequence[Dot], best: Sequence[tuple[float, float]]
) -> str:
    """Accuracy against cost as `<svg>`, with the frontier as steps; costs over several powers of ten are logarithmic.

    Args:
        chart_id: Unique on the page.
        title: What it shows.
        x_label: The cost and its unit.
        dots: The runs.
        best: The frontier: (cost, accuracy), cheapest first.
    """
    costs = [dot.cost for dot in dots] + [cost for cost, _ in best]
    low, high = min(costs), max(costs)
    logarithmic = low > 0 and high / low > 30
    marks = _powers(low, high) if logarithmic else ticks(0.0, high, 6)
    left, right = (math.log10(marks[0]), math.log10(marks[-1])) if logarithmic else (marks[0], marks[-1])

    def x(cost: float) -> float:
        value = math.log10(cost) if logarithmic else cost
        share = 0.5 if right == left else (value - left) / (right - left)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(accuracy: float) -> float:
        return round(_HEIGHT - _BOTTOM - accuracy * (_HEIGHT - _BOTTOM - _TOP), 1)

    base = _HEIGHT - _BOTTOM
    words = "; ".join(f"{format_number(cost)}: {100 * accuracy:.1f} %" for cost, accuracy in best[:12])
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{chart_id}-title {chart_id}-desc"><title id="{chart_id}-title">{escape(title)}</title>'
        f'<desc id="{chart_id}-desc">{escape(x_label)} from {format_number(low)} to {format_number(high)}. '
        f"The best at each cost: {words}.</desc>"
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(share)}" y2="{y(share)}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y(share)}" dy=".35em" text-anchor="end">{100 * share:.0f} %</text>'
        )
    for mark in marks:
        parts.append(
            f'<text class="tick" x="{x(mark)}" y="{base + 18}" text-anchor="middle">{_tick(mark)}</text>'
        )  # fmt: skip
    scale = ", logarithmic" if logarithmic else ""
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label + scale)}</text>"
    )
    if len(best) > 1:
        path = f"M{x(best[0][0])} {y(best[0][1])}"
        path += "".join(f"H{x(cost)}V{y(accuracy)}" for cost, accuracy in best[1:])
        parts.append(f'<path class="frontier" d="{path}"/>')
    for dot in sorted(dots, key=lambda dot: dot.marked):
        text = f"{dot.label}: {100 * dot.accuracy:.1f} %, {format_number(dot.cost)}"
        kind, radius = ("here", 6) if dot.marked else ("dot", 3.6)
        parts.append(
            f'<circle class="{kind}" cx="{x(dot.cost)}" cy="{y(dot.accuracy)}" r="{radius}">'
            f"<title>{escape(text)}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


_BARS: tuple[tuple[str, str, str, bool], ...] = (
    ("skills", "accuracy", "Accuracy", True),
    ("skills", "reliable", "All attempts right", True),
    ("calibration", "spearman", "Tokens rank with difficulty", True),
    ("strategy", "plan_validity", "Valid plans", True),
    ("strategy", "adherence", "Plan carried out", True),
    ("strategy", "adherence_by_step", "Plan carried out, by named steps", True),
    ("strategy", "replan_precision", "Re-plans with a reason", True),
    ("strategy", "replan_recall", "Contradictions answered by a re-plan", True),
    ("strategy", "recovery", "Recovery from a broken route", True),
    ("strategy", "repeated_failures", "Mistakes repeated", False),
    ("strategy", "loop_rate", "Episodes in a loop", False),
    ("abstraction", "parallel_ratio_independent", "Independent parts done side by side", True),
    ("abstraction", "failed_sub_calls", "Sub-calls without an answer", False),
    ("abstraction", "unused_results", "Answers not used", False),
    ("abstraction", "duplicate_calls", "Calls made twice", False),
    ("compression", "accuracy_with_summary", "Accuracy with summaries", True),
    ("compression", "fact_recall", "Facts kept", True),
    ("compression", "update_rate", "Facts updated", True),
    ("compression", "stale_rate", "Stale facts kept", False),
)


def draw_bars(cards: dict[str, ReportCard]) -> str:
    """Bars by trait: the mean over the entries, a mark for each entry; shares between 0 and 1 alone."""
    rows, group = [], ""
    for trait, name, label, more_is_better in _BARS:
        found = {entry: value for entry, card in cards.items() if (value := _pick(card, trait, name).value) is not None}
        if not found:
            continue
        if trait != group:
            group = trait
            rows.append(f'<tr class="group"><th colspan="3" scope="rowgroup">{trait.capitalize()}</th></tr>')
        mean = sum(found.values()) / len(found)
        told = "; ".join(f"{entry}: {_share(trait, value)}" for entry, value in found.items())
        marks = (
            "".join(f'<i style="left:{_percent(value)}%"></i>' for value in found.values()) if len(found) > 1 else ""
        )
        less = "" if more_is_better else " <small>less is better</small>"
        rows.append(
            f'<tr><th scope="row">{label}{less}</th><td class="bar" title="{escape(told)}">'
            f'<span class="track" aria-hidden="true"><b class="{"up" if more_is_better else "down"}" '
            f'style="width:{_percent(mean)}%"></b>{marks}</span></td><td>{_share(trait, mean)}</td></tr>'
        )
    if not rows:
        return ""
    return (
        '<div class="scroll" role="region" aria-label="Bars by trait" tabindex="0"><table class="bars">'
        "<caption><span>Means over the suite's entries; thin marks are the single entries.</span></caption>"
        '<thead class="aloud"><tr><th scope="col">Measure</th><th scope="col">Bar</th><th scope="col">Value</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _pick(card: ReportCard, trait: str, name: str) -> Estimate:
    if name == "accuracy":
        return card.accuracy
    if name == "reliable":
        return card.pass_hat[max(card.pass_hat)] if len(card.pass_hat) > 1 else Estimate()
    if name == "spearman":
        return card.calibration.spearman_difficulty
    return card.traits.get(trait, {}).get(name, Estimate())


def _share(trait: str, value: float) -> str:
    text = f"{value:.2f}" if trait == "calibration" else f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"
    return text.replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> float:
    return round(100 * min(1.0, max(0.0, value)), 1)


def _powers(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and value == round(value) else f"{value:g}"
