"""Run a recipe with several seeds and write the table of what came out, with intervals over the seeds.

    python examples/experiments/seeds.py examples/recipes/pointer.toml --seeds 0 1 2 3 4 --out examples/results/pointer

Runs that are done are not done again. The table has one row per run (SFT, RL, each ablation) and evaluation; intervals
are 95 % Student intervals over seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from forethought.trainers.names import MAIN_RUN, START_RUN, slug
from forethought.trainers.recipe import Recipe, load_recipe

METRICS = {
    "accuracy": "accuracy",
    "Spearman of tokens and difficulty": "calibration.spearman_difficulty",
    "tokens per unit of difficulty": "calibration.slope",
    "thinking on easy tasks over the oracle's": "calibration.think_over_ratio",
    "sampled tokens": "tokens.sampled",
    "format errors": "format_error_rate",
}
# Two-sided 97.5 % quantiles of Student's t by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs go (runs)")
    parser.add_argument("--out", type=Path, required=True, help="folder for seeds.json and table.md")
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.overrides)
    folders = []
    for seed in options.seeds:
        folder = options.runs / f"{recipe.name}-seed-{seed}"
        command = [sys.executable, "-m", "forethought.trainers.cli", "run", options.recipe, *options.overrides]
        subprocess.run([*command, f"seed={seed}", f"output={folder}"], check=True)
        folders.append(folder)
    results = collect(recipe, folders)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "seeds.json").write_text(json.dumps({"seeds": options.seeds, "results": results}, indent=1) + "\n")
    (options.out / "table.md").write_text(table(results))


def collect(recipe: Recipe, folders: list[Path]) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Evaluation -> run -> metric -> one value a seed."""
    runs = [START_RUN, MAIN_RUN, *(ablation.name for ablation in recipe.ablations)]
    results: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for evaluation in recipe.eval:
        for run in runs:
            paths = [folder / "eval" / slug(evaluation.name) / slug(run) / "report_card.json" for folder in folders]
            cards = [json.loads(path.read_text("utf-8")) for path in paths]
            values = {name: [read(card, key) for card in cards] for name, key in metrics_of(cards).items()}
            results.setdefault(evaluation.name, {})[run] = values
    return results


def metrics_of(cards: list[dict[str, Any]]) -> dict[str, str]:
    """The metrics of every run, the environment's scores, and the traits that show."""
    keys = dict.fromkeys(f"scores.{name}" for card in cards for name in card["scores"] if name != "correct")
    keys |= dict.fromkeys(
        f"traits.{trait}.{name}" for card in cards for trait, values in card["traits"].items() for name in values
    )
    return METRICS | {key.partition(".")[2].replace(".", ": ").replace("_", " "): key for key in keys}


def read(card: dict[str, Any], key: str) -> float | None:
    value: Any = card
    for part in key.split("."):
        value = value.get(part) if value is not None else None
    number: float | None = None if value is None else value["value"]
    return number


def table(results: dict[str, dict[str, dict[str, list[float | None]]]]) -> str:
    lines = []
    for evaluation, runs in results.items():
        lines += [f"**{evaluation}**", "", f"| | {' | '.join(runs)} |", f"|---|{'---|' * len(runs)}"]
        for metric in dict.fromkeys(metric for values in runs.values() for metric in values):
            cells = [cell(values.get(metric, [])) for values in runs.values()]
            if any(text.strip("-0.± ()to") for text in cells):
                lines.append(f"| {metric} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = fmean(known)
    if len(known) < 2:
        return f"{mean:.3f}"
    half = STUDENT[len(known) - 1] * stdev(known) / math.sqrt(len(known))
    return f"{mean:.3f} ± {half:.3f} ({min(known):.3f} to {max(known):.3f})"


if __name__ == "__main__":
    main()
