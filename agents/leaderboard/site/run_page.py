"""The pages of one run: its numbers, and a sample of its episodes as text."""

from __future__ import annotations

from collections.abc import Sequence

from ...evaluation.horizon import Horizon
from ...report import Report, SampleEpisode
from ...report.charts import LineChart, Point, Series, draw_lines
from ...report.escape import escape
from ...report.metrics import format_interval, format_number, format_p_value, format_value
from ...report.sections import definitions_section, difficulty_section, samples_section, table_section
from .board import Board, accuracy_of, horizon_text
from .charts import Dot, draw_bars, draw_costs
from .runs import BoardRun
from .shell import render


def run_page(board: Board, run: BoardRun) -> str:
    """The numbers of a run."""
    cards = {entry.name: entry.card for entry in run.result.entries}
    report = Report(title=run.label, runs=cards)
    bars = draw_bars(cards)
    parts = [
        _head(board, run),
        f'<section aria-labelledby="traits"><h2 id="traits">By trait</h2>{bars}</section>' if bars else "",
        _cost_section(board, run),
        _horizon_section(run),
        table_section(report).replace(">The runs<", ">All numbers<", 1),
        difficulty_section(report),
        _facts(board, run),
        definitions_section(report),
    ]
    return render(run.label, "\n".join(filter(None, parts)), up="../index.html")


def episodes_page(run: BoardRun, samples: Sequence[SampleEpisode], notes: Sequence[str]) -> str:
    """A right and a wrong episode of each entry, shown as text and never interpreted."""
    title = f"Episodes of {run.label}"
    told = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    body = samples_section(Report(title=title, samples=samples)) or "<p>There is no episode that can be shown.</p>"
    back = f'<p><a href="../runs/{run.slug}.html">All numbers of this run</a></p>'
    return render(title, f"<header><h1>{escape(title)}</h1>{back}</header>{told}{body}", up="../index.html")


def _head(board: Board, run: BoardRun) -> str:
    result = run.result
    accuracy = format_value(result.accuracy, True)
    figures = [
        (accuracy, f"Accuracy, {format_interval(result.accuracy, True)}"),
        (f"{run.rank}", f"of {len(board.runs):,}, rank on {board.suite.name} {board.suite.version}"),
    ]
    if result.sampled_tokens is not None:
        figures.append((format_number(result.sampled_tokens), "Sampled tokens per episode"))
    if result.money is not None:
        figures.append((f"{result.money:.3g}", f"Cost of an episode, {result.agent.unit or 'no unit given'}"))
    if run.verified is not None:
        figures.append(("✓" if run.verified else "no", "Verified by replay"))
    items = "".join(
        f'<li class="figure"><b>{escape(value)}</b><span>{escape(label)}</span></li>' for value, label in figures
    )
    against = "" if run.p_value is None else f" Difference to the best run: {escape(format_p_value(run.p_value))}."
    return (
        f'<header><h1>{escape(run.label)}</h1><ul class="figures" aria-label="Main numbers">{items}</ul>'
        f'<p>{against} <a href="../episodes/{run.slug}.html">A sample of its episodes</a></p></header>'
    )


def _cost_section(board: Board, run: BoardRun) -> str:
    cost = board.cost(run)
    if cost is None:
        return ""
    dot = Dot(label=run.label, cost=cost, accuracy=accuracy_of(run), marked=True)
    chart = draw_costs("costs", "Accuracy against cost", board.cost_label, [dot], board.frontier)
    return (
        '<section aria-labelledby="cost"><h2 id="cost">Accuracy against cost</h2>'
        f'<figure class="costs">{chart}<p class="soft">The mark is this run; dotted is the best accuracy that any run '
        "has at each cost.</p></figure></section>"
    )


def _horizon_section(run: BoardRun) -> str:
    figures = []
    for number, entry in enumerate(run.result.entries):
        horizon = entry.horizon
        if horizon is None or not horizon.curve:
            continue
        chart = draw_lines(
            LineChart(
                id=f"horizon-{number}",
                title=f"Success against length: {entry.name}",
                x_label="Steps that the task needs",
                series=[_series(entry.name, horizon)],
                percent=True,
            )
        )
        rows = "".join(
            f'<tr><th scope="row">{format_number(level.length).removesuffix(".00")}</th><td>{level.tasks:,}</td>'
            f"<td>{100 * level.success:.1f}&nbsp;%</td></tr>"
            for level in horizon.levels
        )
        figures.append(
            f"<figure><figcaption><h3>{escape(entry.name)}: {escape(horizon_text(entry))}</h3></figcaption>{chart}"
            '<details><summary>The numbers</summary><div class="scroll" role="region" tabindex="0" '
            f'aria-label="Success by length, {escape(entry.name)}"><table><thead><tr><th scope="col">Steps</th>'
            f'<th scope="col">Tasks</th><th scope="col">Success</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details></figure>"
        )
    if not figures:
        return ""
    return (
        '<section aria-labelledby="horizon"><h2 id="horizon">50&nbsp;% horizon</h2><p>How many steps a task may need '
        "until half of the attempts fail: a logistic curve over the number of steps. Thick: the fit with its 95&nbsp;% "
        "band; thin: what was measured.</p>"
        f'<div class="charts">{"".join(figures)}</div></section>'
    )


def _series(name: str, horizon: Horizon) -> Series:
    return Series(
        name=name,
        slot=0,
        points=[Point(x=p.length, y=p.success, low=p.low, high=p.high) for p in horizon.curve],
        faint=[Point(x=level.length, y=level.success) for level in horizon.levels],
        marks=False,
    )


def _facts(board: Board, run: BoardRun) -> str:
    agent = run.result.agent
    facts = [("Agent", agent.spec or agent.name), ("Suite", f"{board.suite.name} {board.suite.version}")]
    facts.append(("Suite SHA-256", board.suite.sha256))
    if agent.prices is not None:
        unit = agent.unit or "no unit given"
        prices = f"{agent.prices.input:g} and {agent.prices.output:g} {unit} for a million tokens read and sampled"
        facts.append(("Prices", prices))
    for entry in run.result.entries:
        window = entry.window
        limit = "the engine's limit" if window.get("limit") is None else f"{window['limit']:,} tokens"
        card = entry.card
        told = f"version {entry.env['version']} of {entry.env['id']}, window {window.get('policy')}, {limit}; "
        told += f"{card.tasks:,} tasks, {card.episodes:,} episodes, {card.faults:,} faults, {card.retries:,} retries"
        facts.append((entry.name, told))
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<section aria-labelledby="facts"><h2 id="facts">What was run</h2><dl>{items}</dl></section>'
