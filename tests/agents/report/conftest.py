from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from forethought.agents.evaluation import (
    Calibration,
    DifficultyLevel,
    Estimate,
    PairedComparison,
    ReportCard,
)
from forethought.agents.report import Report, SampleEpisode, Target


def _around(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.02, high=value + 0.02)


@pytest.fixture
def make_card() -> Callable[..., ReportCard]:
    def make(accuracy: float = 0.5, rho: float = 0.0, tokens: Sequence[float] = (12.0, 14.0, 16.0)) -> ReportCard:
        levels = tuple(
            DifficultyLevel(
                difficulty=float(i),
                tasks=10,
                episodes=20,
                accuracy=_around(accuracy),
                sampled_tokens=_around(mean),
                think_tokens=_around(mean - 9),
                fewest_right=9 + i,
            )
            for i, mean in enumerate(tokens)
        )
        return ReportCard(
            tasks=30,
            episodes=60,
            attempts=2,
            accuracy=_around(accuracy),
            pass_at={1: _around(accuracy), 2: _around(accuracy + 0.1)},
            pass_hat={1: _around(accuracy), 2: _around(accuracy - 0.1)},
            tokens={"sampled": _around(sum(tokens) / len(tokens)), "think": _around(5.0)},
            calibration=Calibration(spearman_difficulty=_around(rho), think_over_ratio=_around(5.9)),
            by_difficulty=levels,
            finish_rate=Estimate(value=1.0, low=0.98, high=1.0),
            format_error_rate=Estimate(value=0.0, low=0.0, high=0.02),
        )

    return make


@pytest.fixture
def make_report(make_card: Callable[..., ReportCard]) -> Callable[..., Report]:
    """A report with something in every section; `text` stands wherever a caller's or a model's text can stand."""

    def make(text: str = "text", **changes: Any) -> Report:
        before, after = f"before {text}", f"after {text}"
        history = [
            {
                "step": step,
                "reward": step / 40,
                "rewards/correct/mean": step / 50,
                "completions/mean_length": 30 - step / 4,
            }
            for step in range(1, 41)
        ]
        comparison = PairedComparison(tasks=30, difference=_around(0.4), p_value=0.0001)
        fields: dict[str, Any] = {
            "title": f"title {text}",
            "summary": f"summary {text}",
            "facts": {f"fact {text}": f"value {text}"},
            "commands": [f"command {text}", "make demo"],
            "runs": {before: make_card(0.5, -0.01, (17, 17, 16)), after: make_card(0.9, 0.97)},
            "oracle": make_card(1.0, 1.0, (11, 13, 15)),
            "comparisons": {f"comparison {text}": {"accuracy": comparison, "sampled_tokens": comparison}},
            "histories": {after: history},
            "targets": [
                Target(name=f"target {text}", target=f"goal {text}", value=f"reached {text}", met=met)
                for met in (True, False, None)
            ],
            "samples": [
                SampleEpisode(
                    run=before,
                    task_id=f"task {text}",
                    prompt=f"prompt {text}",
                    turns=[(f"<think> turn {text} </think>", f"observation {text}"), ("<answer> A </answer>", "")],
                    expected=f"expected {text}",
                    correct=correct,
                    difficulty=2.0,
                    sampled_tokens=1234,
                )
                for correct in (True, False)
            ],
            "notes": [f"note {text}"],
        }
        return Report(**{**fields, **changes})

    return make
