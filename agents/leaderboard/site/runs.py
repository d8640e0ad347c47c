"""The runs that a leaderboard shows: read from their folders, as far as they are sound."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...evaluation import EvaluationError
from ...report import SampleEpisode
from ..result import Result, read_result
from ..run_files import RunFiles
from ..suite import Suite
from ..verify import verify_run

_DEEPEST = 3
_ROWS = 6
"""Rows of an entry among which a right and a wrong episode are looked for."""
_LONGEST_ROW = 4 << 20


@dataclass(slots=True, kw_only=True)
class BoardRun:
    """A run on the board."""

    folder: Path
    result: Result
    verified: bool | None
    """None when it was not verified."""
    label: str = ""
    """Its name, unique on the board."""
    slug: str = ""
    """Names its pages."""
    rank: int = 0
    p_value: float | None = None
    """Of the comparison with the best run of the suite; None for that one."""


@dataclass(slots=True, kw_only=True)
class Refused:
    """A run that is not ranked."""

    folder: Path
    name: str
    reasons: list[str] = field(default_factory=list)


def read_runs(
    paths: Iterable[Path], suite: Suite | None, verify: bool
) -> tuple[list[BoardRun], list[Refused], list[Suite]]:
    """The runs in these folders, those that cannot be shown, and the suites that the shown ones answer.

    Args:
        paths: Run folders, and folders of them.
        suite: Runs of other suites are refused.
        verify: Verify each run first.
    """
    runs: list[BoardRun] = []
    refused: list[Refused] = []
    suites: dict[str, Suite] = {}
    for folder in _run_folders(paths):
        try:
            files = RunFiles(folder)
            own, result = files.suite(), read_result(files)
        except EvaluationError as error:
            refused.append(Refused(folder=folder, name=folder.name, reasons=[str(error)]))
            continue
        reasons = _reasons(own, result, suite)
        if not reasons and verify:
            reasons = [str(finding) for finding in verify_run(folder, suite=suite).findings]
        if reasons:
            refused.append(Refused(folder=folder, name=result.agent.name, reasons=reasons))
        else:
            suites[own.sha256] = own
            runs.append(BoardRun(folder=folder, result=result, verified=True if verify else None))
    _name(runs)
    return runs, refused, list(suites.values())


def sample_episodes(run: BoardRun, suite: Suite) -> tuple[list[SampleEpisode], list[str]]:
    """A right and a wrong episode of each entry, where the first rows hold one, and what could not be read."""
    samples, notes = [], []
    files = RunFiles(run.folder)
    for entry in suite.entries:
        shards, _ = files.shards(entry)
        found: dict[bool, SampleEpisode] = {}
        for number in sorted(shards)[:1]:
            for row in _first_rows(shards[number] / "episodes.jsonl"):
                sample = _sample(row, entry.name) if isinstance(row, dict) else None
                if sample is None:
                    notes.append(f"{entry.name}: {row if isinstance(row, str) else 'a row is no episode'}")
                else:
                    found.setdefault(sample.correct, sample)
        samples += [found[correct] for correct in (True, False) if correct in found]
    return samples, notes


def _run_folders(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        for folder in _within(path, _DEEPEST):
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder


def _within(path: Path, deep: int) -> Iterator[Path]:
    if (path / "suite.json").exists() or deep == 0 or not path.is_dir():
        if (path / "suite.json").exists() or deep == _DEEPEST:
            yield path
        return
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            yield from _within(child, deep - 1)


def _reasons(own: Suite, result: Result, suite: Suite | None) -> list[str]:
    if suite is not None and own.sha256 != suite.sha256:
        return [f"answers another suite: {own.name} {own.version}, SHA-256 {own.sha256}"]
    if result.suite["sha256"] != own.sha256:
        return ["result.json belongs to another suite than suite.json"]
    if [entry.name for entry in result.entries] != [entry.name for entry in own.entries]:
        return ["result.json does not have the suite's entries"]
    if result.accuracy.value is None:
        return ["has no accuracy: no episode was finished in one of the entries"]
    return []


def _name(runs: Sequence[BoardRun]) -> None:
    """Give every run a label and a slug of its own."""
    labels: set[str] = set()
    slugs: set[str] = set()
    for run in runs:
        name = run.result.agent.name.strip() or "unnamed"
        run.label = _free(name, labels, " ({})")
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in run.label.lower())
        run.slug = _free("-".join(filter(None, plain.split("-")))[:60] or "run", slugs, "-{}")


def _free(name: str, taken: set[str], form: str) -> str:
    free, number = name, 2
    while free in taken:
        free, number = name + form.format(number), number + 1
    taken.add(free)
    return free


def _first_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for _ in range(_ROWS):
            line = file.readline(_LONGEST_ROW)
            if not line:
                return
            if not line.endswith(b"\n"):
                yield f"an episode of more than {_LONGEST_ROW >> 20} MiB, or one cut off, is not shown"
                while line and not line.endswith(b"\n"):
                    line = file.readline(_LONGEST_ROW)
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else "a damaged line is not shown"


def _sample(row: dict[str, Any], entry: str) -> SampleEpisode | None:
    """What is shown of a row, which nobody has checked; None when it is no episode."""
    try:
        return SampleEpisode(
            run=entry,
            task_id=str(row["task_id"]),
            prompt=str(row["task"]["prompt"]),
            turns=[(str(turn["text"]), str(turn["observation"])) for turn in row["turns"]],
            expected=None if row["task"].get("answer") is None else str(row["task"]["answer"]),
            correct=float(row["scores"].get("correct", row["reward"])) >= 1.0,
            difficulty=None if row["task"].get("difficulty") is None else float(row["task"]["difficulty"]),
            sampled_tokens=int(row["usage"]["sampled_tokens"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
