"""The report of a run: one page for each evaluation, and the table on the terminal."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...agents.episode_store import EpisodeStore
from ...agents.evaluation import ReportCard, compare_runs
from ...agents.report import Report, SampleEpisode, Target, format_summary, write_report
from ..names import ORACLE_RUN, START_RUN, slug
from ..progress import Progress
from ..recipe import EvalTable, Recipe, TargetTable
from ..training_log import read_log

_SAMPLES_A_RUN = 4


def write_run_report(recipe: Recipe, folder: Path, progress: Progress) -> list[Path]:
    """Write `report.html` (the first evaluation, and every target) and a page for each further evaluation."""
    pages = []
    for number, table in enumerate(recipe.eval):
        cards = dict(_cards(recipe, folder, table))
        targets = recipe.targets if number == 0 else [t for t in recipe.targets if t.eval == table.name]
        report = Report(
            title=f"{recipe.name}: {table.name}",
            summary=f"{recipe.env.id}, {table.tasks} tasks that nothing was trained on, "
            f"{table.attempts} attempt{'s' if table.attempts > 1 else ''} each.",
            facts=_facts(recipe, folder),
            commands=[f"forethought run {folder / 'recipe.resolved.toml'} output=runs/again"],
            runs={name: card for name, card in cards.items() if name != ORACLE_RUN},
            oracle=cards.get(ORACLE_RUN),
            comparisons=_comparisons(folder, table, list(cards)),
            histories={name: read_log(folder / "grpo" / slug(name) / "log.jsonl") for name in _learned(recipe)},
            targets=[_check(recipe, folder, target) for target in targets],
            samples=list(_samples(folder, table, cards)),
            notes=recipe.notes,
        )
        page = folder / ("report.html" if number == 0 else f"report-{slug(table.name)}.html")
        pages.append(write_report(page, report))
        progress.note(f"\n{table.name}\n{format_summary(report.runs)}")
    for target in (_check(recipe, folder, target) for target in recipe.targets):
        verdict = {True: "met", False: "MISSED", None: "not measured"}[target.met]
        progress.note(f"{verdict:>12}  {target.name}: {target.value} (target {target.target})")
    return pages


def _learned(recipe: Recipe) -> list[str]:
    """The reinforcement learning runs."""
    return recipe.runs


def _folder(folder: Path, eval_name: str, run: str) -> Path:
    return folder / "eval" / slug(eval_name) / slug(run)


def _cards(recipe: Recipe, folder: Path, table: EvalTable) -> Iterator[tuple[str, ReportCard]]:
    for run in (START_RUN, *_learned(recipe), ORACLE_RUN):
        path = _folder(folder, table.name, run) / "report_card.json"
        if path.exists():
            yield run, ReportCard.from_dict(json.loads(path.read_text("utf-8")))


def _comparisons(folder: Path, table: EvalTable, runs: list[str]) -> dict[str, Any]:
    start = _folder(folder, table.name, START_RUN)
    return {
        f"{START_RUN} to {run}": compare_runs(EpisodeStore(start), EpisodeStore(_folder(folder, table.name, run)))
        for run in runs
        if run not in (START_RUN, ORACLE_RUN)
    }


def _samples(folder: Path, table: EvalTable, cards: dict[str, ReportCard]) -> Iterator[SampleEpisode]:
    """Of each run the episodes of the same few tasks: one task of a difficulty, from the easiest to the hardest."""
    for run in cards:
        by_difficulty: dict[float, SampleEpisode] = {}
        for episode in EpisodeStore(_folder(folder, table.name, run)):
            sample = SampleEpisode.of(episode, run)
            level = sample.difficulty or 0.0
            if level not in by_difficulty or sample.task_id < by_difficulty[level].task_id:
                by_difficulty[level] = sample
        levels = sorted(by_difficulty)
        step = max(1, -(-len(levels) // _SAMPLES_A_RUN))
        yield from (by_difficulty[level] for level in levels[::step])


def _check(recipe: Recipe, folder: Path, target: TargetTable) -> Target:
    """What became of a threshold; an interval's middle is compared, and the interval shown."""
    bounds = [
        f"{word} {bound:g}" for word, bound in (("at least", target.min), ("at most", target.max)) if bound is not None
    ]
    path = _folder(folder, target.eval, target.run) / "report_card.json"
    value: Any = json.loads(path.read_text("utf-8")) if path.exists() else None
    for part in target.metric.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    low = high = None
    if isinstance(value, dict):
        low, high, value = value.get("low"), value.get("high"), value.get("value")
    met, shown = None, "not measured"
    if value is not None:
        met = (target.min is None or value >= target.min) and (target.max is None or value <= target.max)
        shown = f"{value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else "")
    return Target(name=f"{target.name} ({target.run})", target=" and ".join(bounds), value=shown, met=met)


def _facts(recipe: Recipe, folder: Path) -> dict[str, str]:
    versions = (
        f"{name} {importlib.metadata.version(name)}" for name in ("forethought", "torch", "transformers", "trl")
    )
    stages = {
        str(path.parent.relative_to(folder)): json.loads(path.read_text("utf-8"))["seconds"]
        for path in sorted(folder.glob("**/done.json"))
    }
    return {
        "Recipe": recipe.name,
        "Seed": str(recipe.seed),
        "Date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
        "Seconds by stage": ", ".join(f"{name} {seconds:.0f}" for name, seconds in stages.items()),
    }
