from __future__ import annotations

from collections.abc import Callable

import pytest

from forethought.agents.evaluation import Estimate, ReportCard
from forethought.agents.report import Target, format_summary
from forethought.agents.report.metrics import format_interval, format_number, format_p_value, format_value


def _words(text: str) -> str:
    return " ".join(text.split())


def test_runs_stand_side_by_side(make_card: Callable[..., ReportCard]) -> None:
    text = format_summary(
        {"SFT": make_card(0.5, -0.01), "after RL": make_card(0.9, 0.97)},
        title="Pointer",
        oracle=make_card(1.0),
        targets=[Target(name="rho", target="at least 0.9", value="0.97", met=True)],
    )
    lines = text.splitlines()
    assert lines[0] == "Pointer"
    accuracy = next(line for line in lines if "Accuracy" in line)
    assert _words(accuracy) == "Accuracy (pass@1) 50.0 % [48.0 to 52.0] 90.0 % [88.0 to 92.0]"
    assert any(line.startswith("  Spearman") and "-0.01  [-0.03 to 0.01]" in line for line in lines)
    assert "0 50.0 % 12.0 90.0 % 12.0 100.0 % 12.0" in map(_words, lines)
    assert _words(lines[-1]) == "met rho 0.97 target at least 0.9"
    main = lines[2 : lines.index("", 2)]
    assert len({len(line) for line in main if line.endswith("]")}) == 1


def test_one_run_alone_and_a_run_of_nothing(make_card: Callable[..., ReportCard]) -> None:
    assert "50.0 %" in format_summary({"only": make_card()})
    nothing = format_summary({"none": ReportCard(faults=3)})
    assert _words(nothing) == "none Episodes 0 (0 tasks) Faults (left out) 3"


def test_names_cannot_drive_the_terminal(make_card: Callable[..., ReportCard]) -> None:
    text = format_summary({"a\x1b[2J\nb": make_card()}, title="t\x07")
    assert "\x1b" not in text and "\x07" not in text and "a\u241b[2J b" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (-0.001, "0.00"), (-0.59, "-0.59"), (17.04, "17.0"), (-12345.6, "-12,346")]
)
def test_numbers(value: float, text: str) -> None:
    assert format_number(value) == text


def test_estimates() -> None:
    assert format_value(Estimate(value=0.5), percent=True) == "50.0\xa0%"
    assert format_value(Estimate()) == "\N{EN DASH}" and format_interval(Estimate(value=1.0)) == ""
    assert format_interval(Estimate(value=0.5, low=0.25, high=1.0), percent=True) == "25.0 to 100.0"
    assert format_interval(Estimate(value=5.0, low=5.0, high=5.0)) == ""
    assert format_p_value(0.0004) == "p < 0.001" and format_p_value(0.0312) == "p = 0.031"
