"""The report as one HTML file: no network, no script, light and dark, readable on paper and by a screen reader."""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

from .content import Report
from .escape import escape
from .sections import (
    comparison_section,
    definitions_section,
    difficulty_section,
    headline,
    notes_section,
    run_section,
    samples_section,
    table_section,
    targets_section,
    training_section,
)

_SECTIONS = (
    targets_section,
    table_section,
    comparison_section,
    difficulty_section,
    training_section,
    samples_section,
    notes_section,
    run_section,
    definitions_section,
)


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page; a reader never sees half of it.

    Args:
        path: The file; folders that are missing are made.
        report: What it says.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render_page(report), "utf-8")
    os.replace(partial, path)
    return path


def render_page(report: Report) -> str:
    """The page. Its policy allows no script and no request, so hostile text could do nothing even if it got through."""
    style = importlib.resources.files(__package__).joinpath("page.css").read_text("utf-8")
    title = escape(report.title)
    lead = f'<p class="lead">{escape(report.summary)}</p>' if report.summary else ""
    body = "\n".join(html for section in _SECTIONS if (html := section(report)))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
{lead}
{headline(report)}
</header>
{body}
<footer>Written by Forethought. Ranges beside numbers and bands around lines are 95&nbsp;% intervals that
resample tasks.</footer>
</main>
</body>
</html>
"""
