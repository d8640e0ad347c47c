"""Writes the site."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..run_files import RunError
from ..suite import Suite
from .board import Board, board_page
from .ranking import rank
from .run_page import episodes_page, run_page
from .runs import read_runs, sample_episodes

_MARK = ".forethought-leaderboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was written."""

    shown: int
    """Runs that are ranked."""
    notes: list[str]
    """What could not be shown, and why; a sentence each."""


def build_site(
    runs: Iterable[str | Path],
    out: str | Path,
    *,
    title: str = "Leaderboard",
    suite: Suite | None = None,
    verify: bool = False,
) -> Built:
    """Write the board, a page for every run, and a page with some of its episodes.

    Args:
        runs: Run folders, and folders of run folders.
        out: The site's folder; an older site in it is replaced.
        title: Of the board.
        suite: Show runs of this suite only.
        verify: Verify each run first, and rank none that fails. Without it no run is called verified.

    Raises:
        RunError: `out` holds something else than a site.
    """
    out = Path(out)
    _prepare(out)
    found, refused, suites = read_runs(map(Path, runs), suite, verify)
    boards = []
    for own in sorted(suites, key=lambda s: (s.name, s.version, s.sha256)):
        ranked = rank([run for run in found if run.result.suite["sha256"] == own.sha256], own.seed)
        boards.append(Board(suite=own, runs=ranked))
    notes = [f"{run.folder}: not ranked: {run.reasons[0]}" for run in refused]
    notes += [
        f"{count} runs are named {name!r}: the board numbers them"
        for name, count in Counter(run.result.agent.name for run in found).items()
        if count > 1
    ]
    written = set()
    for board in boards:
        for run in board.runs:
            samples, problems = sample_episodes(run, board.suite)
            _write(out / "runs" / f"{run.slug}.html", run_page(board, run))
            _write(out / "episodes" / f"{run.slug}.html", episodes_page(run, samples, problems))
            written.add(f"{run.slug}.html")
    _write(out / "index.html", board_page(title, boards, refused))
    for folder in ("runs", "episodes"):
        for page in (out / folder).glob("*.html"):
            if page.name not in written:
                page.unlink()
    return Built(shown=len(found), notes=notes)


def _prepare(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / _MARK).exists():
        raise RunError(f"{out} holds something else than a leaderboard; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    for folder in ("runs", "episodes"):
        (out / folder).mkdir(exist_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a page; a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
