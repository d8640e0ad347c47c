"""The first page: one table for each suite, accuracy against cost, and what is not ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...evaluation import Estimate
from ...report.escape import escape
from ...report.metrics import format_interval, format_number, format_p_value, format_value
from ..result import EntryResult
from ..suite import Suite
from .charts import Dot, draw_costs
from .ranking import frontier
from .runs import BoardRun, Refused
from .shell import render, table_script

_MOST_ENTRIES = 8
_MOST_REASONS = 20


@dataclass(frozen=True, kw_only=True)
class Board:
    """The runs of one suite, best first."""

    suite: Suite
    runs: Sequence[BoardRun]

    @cached_property
    def unit(self) -> str | None:
        """Of the money, when every run that has a cost has the same; None when none has one."""
        units = {run.result.agent.unit for run in self.runs if run.result.money is not None}
        return None if not units else units.pop() if len(units) == 1 else "several units"

    @cached_property
    def by_money(self) -> bool:
        """Whether costs are compared in money: when all runs have one, in one unit."""
        return self.unit not in (None, "several units") and all(run.result.money is not None for run in self.runs)

    def cost(self, run: BoardRun) -> float | None:
        """What an episode of the run costs, in money or in sampled tokens."""
        return run.result.money if self.by_money else run.result.sampled_tokens

    @property
    def cost_label(self) -> str:
        """What `cost` is."""
        return f"Cost of an episode, {self.unit}" if self.by_money else "Sampled tokens per episode"

    @cached_property
    def frontier(self) -> list[tuple[float, float]]:
        """The best accuracy at each cost."""
        return frontier([(cost, accuracy_of(run)) for run in self.runs if (cost := self.cost(run)) is not None])


def accuracy_of(run: BoardRun) -> float:
    """The run's accuracy."""
    assert run.result.accuracy.value is not None
    return run.result.accuracy.value


def board_page(title: str, boards: Sequence[Board], refused: Sequence[Refused]) -> str:
    """The first page."""
    parts = [f"<header><h1>{escape(title)}</h1></header>"]
    if not boards:
        parts.append("<p>There is no run to show yet.</p>")
    parts += [_board(board, number) for number, board in enumerate(boards)]
    if refused:
        items = "".join(
            f"<li><b>{escape(run.name)}</b>, {escape(str(run.folder.name))}: "
            + "; ".join(escape(_cut(reason)) for reason in run.reasons[:_MOST_REASONS])
            + (f"; and {len(run.reasons) - _MOST_REASONS} more" if len(run.reasons) > _MOST_REASONS else "")
            + "</li>"
            for run in refused
        )
        parts.append(
            '<section aria-labelledby="refused"><h2 id="refused">Not ranked</h2><ul class="refused">'
            f"{items}</ul></section>"
        )
    return render(title, "\n".join(parts), script=table_script())


def horizon_text(entry: EntryResult) -> str:
    """The 50 % horizon in words; empty without one."""
    horizon = entry.horizon
    if horizon is None:
        return ""
    longest = format_number(horizon.levels[-1].length).removesuffix(".00")
    shortest = format_number(horizon.levels[0].length).removesuffix(".00")
    if horizon.beyond is not None:
        beyond = {"above": f"more than {longest}", "below": f"less than {shortest}", "unordered": "none"}
        return beyond[horizon.beyond]
    low = f"< {shortest}" if horizon.low_open else format_number(horizon.steps.low or 0.0)
    high = f"> {longest}" if horizon.high_open else format_number(horizon.steps.high or 0.0)
    return f"{format_value(horizon.steps)} ({low} to {high})"


def _board(board: Board, number: int) -> str:
    suite, runs = board.suite, board.runs
    about = f"<p>{escape(suite.description)}</p>" if suite.description else ""
    entries = suite.entries[:_MOST_ENTRIES]
    verified = any(run.verified for run in runs)
    heads = [("Rank", "up"), ("Agent", "up"), ("Accuracy", "down")]
    heads += [(entry.name, "down") for entry in entries]
    heads += [("p vs. best", "up"), ("Sampled tokens", "up")]
    if board.unit is not None:
        heads.append((f"Cost, {board.unit}" if board.unit else "Cost", "up"))
    if verified:
        heads.append(("Verified", "down"))
    head = "".join(
        f'<th scope="col" data-first="{first}"{_SORTED if name == "Accuracy" else ""}>{escape(name)}</th>'
        for name, first in heads
    )
    rows = "".join(_row(board, run, verified) for run in runs)
    more = len(suite.entries) - len(entries)
    caption = f"Best first. {len(runs):,} runs; the mean of {len(suite.entries)} entries" + (
        f", of which {more} are on the runs' pages only." if more else "."
    )
    return (
        f'<section data-board aria-labelledby="board-{number}"><h2 id="board-{number}">{escape(suite.name)} '
        f'{escape(suite.version)}</h2>{about}<p class="soft">Suite <span class="hash">{suite.sha256}</span></p>'
        '<div class="controls" hidden role="search">'
        '<label>Find <input type="search" autocomplete="off"></label>'
        '<label>Accuracy of at least, % <input type="number" min="0" max="100"></label>'
        f'<label class="check"{"" if verified else " hidden"}><input type="checkbox">verified only</label>'
        '<output aria-live="polite"></output></div>'
        '<div class="scroll tall" role="region" aria-label="Runs" tabindex="0"><table class="board-table">'
        f"<caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_costs(board, number)}</section>"
    )


_SORTED = ' aria-sort="descending"'


def _row(board: Board, run: BoardRun, verified: bool) -> str:
    result = run.result
    cells = [
        _cell(run.rank, str(run.rank), "rank"),
        f'<th scope="row"><a href="runs/{run.slug}.html">{escape(run.label)}</a></th>',
        _estimate(result.accuracy),
        *(
            _cell(entry.card.accuracy.value, format_value(entry.card.accuracy, True))
            for entry in result.entries[:_MOST_ENTRIES]
        ),
        _cell(
            run.p_value,
            "\N{EN DASH}" if run.p_value is None else escape(format_p_value(run.p_value).removeprefix("p = ")),
        ),
        _cell(result.sampled_tokens, _number(result.sampled_tokens)),
    ]
    if board.unit is not None:
        cells.append(_cell(result.money, _money(result.money)))
    if verified:
        cells.append(_cell(float(run.verified is True), "✓" if run.verified else "no"))
    return f'<tr data-verified="{int(run.verified is True)}">{"".join(cells)}</tr>'


def _estimate(estimate: Estimate) -> str:
    interval = format_interval(estimate, True)
    text = f"{format_value(estimate, True)} <small>{interval}</small>"
    return _cell(estimate.value, text)


def _cell(value: float | None, text: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<td{name} data-v="{"" if value is None else f"{value:.8g}"}">{text}</td>'


def _number(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _costs(board: Board, number: int) -> str:
    dots = [
        Dot(label=run.label, cost=cost, accuracy=accuracy_of(run))
        for run in board.runs
        if (cost := board.cost(run)) is not None
    ]
    if not dots:
        return ""
    chart = draw_costs(f"costs-{number}", "Accuracy against cost", board.cost_label, dots, board.frontier)
    return (
        f'<figure class="costs"><figcaption><h3>Accuracy against cost</h3></figcaption>{chart}'
        '<p class="soft">Dotted: the best accuracy at each cost. Point at a run for its name; all numbers stand in the '
        "table.</p></figure>"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + "..."
