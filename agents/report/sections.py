"""The sections of the page, each a function from the report to HTML, empty when there is nothing to say."""

from __future__ import annotations

import re

from ...envs.protocol.codecs import MARKERS
from ..evaluation import Estimate
from .charts import SLOTS, legend_mark
from .content import Report, SampleEpisode
from .escape import escape
from .figures import difficulty_figures, estimate_cell, training_figures
from .metrics import format_number, format_p_value, format_value, metrics_of

_ARROW = '<span class="aloud">to</span><span aria-hidden="true">→</span>'
_LONGEST = 6000
"""Characters of one text of a sampled episode that are shown."""
_MARKER = re.compile("|".join(re.escape(escape(marker)) for pair in MARKERS.values() for marker in pair))


def headline(report: Report) -> str:
    """The numbers to remember: before and after, or one run alone."""
    cards = list(report.runs.values())[:2]
    if not cards:
        return ""
    figures: list[tuple[str, list[Estimate], bool]] = [
        ("Accuracy", [card.accuracy for card in cards], True),
        (
            "Rank correlation of tokens and difficulty",
            [card.calibration.spearman_difficulty for card in cards],
            False,
        ),
        ("Overthinking on easy tasks (1 is what they need)", [c.calibration.think_over_ratio for c in cards], False),
        ("Sampled tokens per episode", [card.tokens.get("sampled", Estimate()) for card in cards], False),
    ]
    items = []
    for label, estimates, percent in figures:
        if all(estimate.value is None for estimate in estimates):
            continue
        values = [format_value(estimate, percent) for estimate in estimates]
        if len(values) == 2:
            before = values[0].removesuffix("\xa0%")
            shown = f"<i>{before} {_ARROW}</i> {values[1]}"
        else:
            shown = values[0]
        items.append(f'<li class="figure"><b>{shown}</b><span>{label}</span></li>')
    names = list(report.runs)[:2]
    what = f"{escape(names[0])} → {escape(names[1])}" if len(names) == 2 else escape(names[0])
    return f'<p class="what">{what}</p><ul class="figures" aria-label="Main numbers">{"".join(items)}</ul>'


def targets_section(report: Report) -> str:
    """Thresholds set before the run, met or missed."""
    if not report.targets:
        return ""
    verdicts = {
        True: '<td class="met">✓ met</td>',
        False: '<td class="missed">✗ missed</td>',
        None: '<td class="soft">not measured</td>',
    }
    rows = "".join(
        f'<tr><th scope="row">{escape(t.name)}</th><td class="words">{escape(t.value)}</td>'
        f'{verdicts[t.met]}<td class="words">{escape(t.target)}</td></tr>'
        for t in report.targets
    )
    counts = {verdict: sum(t.met is verdict for t in report.targets) for verdict in (True, False, None)}
    caption = f"{counts[True]} met, {counts[False]} missed, {counts[None]} not measured."
    head = (
        '<th scope="col">What</th><th scope="col">Reached</th><th scope="col">Verdict</th><th scope="col">Target</th>'
    )
    return _section("targets", "What was aimed at", _table(caption, head, f"<tbody>{rows}</tbody>", "Targets"))


def table_section(report: Report) -> str:
    """Every number of every run."""
    if not report.runs:
        return ""
    cards = report.runs.values()
    head = "<td></td>" + "".join(
        f'<th scope="col">{legend_mark(_slot(report, name))}{escape(name)}</th>' for name in report.runs
    )
    counts = "".join(f"<td>{card.episodes:,} <small>of {card.tasks:,} tasks</small></td>" for card in cards)
    body = [f'<tbody><tr><th scope="row">Episodes</th>{counts}</tr>']
    if any(card.faults for card in cards):
        faults = "".join(f"<td>{card.faults:,}</td>" for card in cards)
        body.append(f'<tr><th scope="row">Faults of the infrastructure, left out</th>{faults}</tr>')
    group = ""
    for metric in metrics_of(cards):
        if metric.group != group:
            group = metric.group
            span = len(report.runs) + 1
            body.append(f'</tbody><tbody><tr class="group"><th colspan="{span}" scope="rowgroup">{group}</th></tr>')
        cells = "".join(estimate_cell(metric.pick(card), metric.percent) for card in cards)
        part = ' class="part"' if metric.label.startswith(("in ", "elsewhere")) else ""
        body.append(f'<tr{part}><th scope="row">{escape(metric.label)}</th>{cells}</tr>')
    body.append("</tbody>")
    caption = "Beside each number its 95&nbsp;% interval."
    return _section("runs", "The runs", _table(caption, head, "".join(body), "Table of runs", wide=True))


def comparison_section(report: Report) -> str:
    """Paired comparisons."""
    labels = {"accuracy": ("Accuracy, points", 100.0), "sampled_tokens": ("Sampled tokens", 1.0)}
    rows = []
    for name, parts in report.comparisons.items():
        for key, comparison in parts.items():
            label, scale = labels.get(key, (key, 1.0))
            d = comparison.difference
            scaled = Estimate(
                value=None if d.value is None else scale * d.value,
                low=None if d.low is None else scale * d.low,
                high=None if d.high is None else scale * d.high,
            )
            rows.append(
                f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(label)}</td>{estimate_cell(scaled)}'
                f"<td>{escape(format_p_value(comparison.p_value))}</td><td>{comparison.tasks:,}</td></tr>"
            )
    if not rows:
        return ""
    head = '<th scope="col">Runs</th><th scope="col" class="text">Measure</th>' + "".join(
        f'<th scope="col">{heading}</th>' for heading in ("Difference", "Sign-flip test", "Tasks")
    )
    caption = "The second run less the first, task by task."
    return _section(
        "comparisons", "Differences", _table(caption, head, f"<tbody>{''.join(rows)}</tbody>", "Differences")
    )


def difficulty_section(report: Report) -> str:
    """Tokens and accuracy against difficulty."""
    figures = difficulty_figures(report, {name: _slot(report, name) for name in report.names()})
    if not figures:
        return ""
    intro = (
        "A calibrated model spends tokens in proportion to difficulty: its line rises, and stays close to what the "
        "task needs. A flat line means that it does not know how hard a task is."
    )
    return _section("difficulty", "Tokens where they are needed", f"<p>{intro}</p>{figures}")


def training_section(report: Report) -> str:
    """Curves over training steps."""
    figures = training_figures(report, {name: _slot(report, name) for name in report.names()})
    return _section("training", "Training", figures) if figures else ""


def samples_section(report: Report) -> str:
    """Sampled episodes as text."""
    if not report.samples:
        return ""
    samples = "".join(_sample(sample, first=i == 0) for i, sample in enumerate(report.samples))
    return _section("episodes", "Sampled episodes", samples)


def notes_section(report: Report) -> str:
    """What a reader must know."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    return _section("notes", "Notes", notes) if notes else ""


def run_section(report: Report) -> str:
    """What was run, and how to run it again."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts.items())
    html = f"<dl>{facts}</dl>" if facts else ""
    if report.commands:
        html += f"<h3>Commands</h3><pre>{escape(chr(10).join(report.commands))}</pre>"
    return _section("run", "What was run", html) if html else ""


def definitions_section(report: Report) -> str:
    """What the words of the table mean."""
    terms = "".join(f"<dt>{escape(m.label)}</dt><dd>{escape(m.meaning)}</dd>" for m in metrics_of(report.runs.values()))
    return _section("definitions", "What the numbers mean", f'<dl class="terms">{terms}</dl>') if terms else ""


def _section(name: str, title: str, html: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{html}</section>'


def _table(caption: str, head: str, body: str, label: str, wide: bool = False) -> str:
    """A table that scrolls sideways within itself on a narrow screen, by keyboard too."""
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table{" class=wide" if wide else ""}>'
        f"<caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead>{body}</table></div>"
    )


def _sample(sample: SampleEpisode, first: bool) -> str:
    verdict = '<b class="met">✓ right</b>' if sample.correct else '<b class="missed">✗ wrong</b>'
    difficulty = (
        "" if sample.difficulty is None else f", difficulty {format_number(sample.difficulty).removesuffix('.00')}"
    )
    turns = []
    for text, observation in sample.turns:
        marked = _MARKER.sub(r"<b>\g<0></b>", _cut(text))
        turns.append(f'<p class="who">Policy</p><pre>{marked}</pre>')
        if observation:
            turns.append(f'<p class="who">Environment</p><pre>{_cut(observation)}</pre>')
    expected = "" if sample.expected is None else f'<p class="who">Expected answer: {_cut(sample.expected)}</p>'
    return (
        f'<details class="sample"{" open" if first else ""}><summary>{escape(sample.run)} {verdict} '
        f"<span>{sample.sampled_tokens:,} tokens{difficulty} · {escape(sample.task_id)}</span></summary>"
        f'<p class="who">Task</p><pre>{_cut(sample.prompt)}</pre>{"".join(turns)}{expected}</details>'
    )


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return escape(text)
    return f"{escape(text[:_LONGEST])}\n[{len(text) - _LONGEST:,} more characters]"


def _slot(report: Report, name: str) -> int:
    return report.names().index(name) % SLOTS


__all__ = [
    "comparison_section",
    "definitions_section",
    "difficulty_section",
    "headline",
    "notes_section",
    "run_section",
    "samples_section",
    "table_section",
    "targets_section",
    "training_section",
]
