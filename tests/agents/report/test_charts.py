from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.agents.report.charts import LineChart, Point, Series, draw_lines, ticks
from forethought.agents.report.figures import history_points, running_mean

_VALUES = st.floats(-1e6, 1e6, allow_nan=False)


def _chart(points: list[Point], **options: bool) -> ElementTree.Element:
    series = [Series(name="a", slot=0, points=points)]
    return ElementTree.fromstring(draw_lines(LineChart(id="c", title="t", x_label="X", series=series, **options)))


@given(st.lists(st.tuples(_VALUES, _VALUES), min_size=1, max_size=20), st.booleans())
def test_everything_is_drawn_inside(values: list[tuple[float, float]], from_zero: bool) -> None:
    points = [Point(x=x, y=y, low=y - 1, high=y + 1) for x, y in sorted(values)]
    marks = _chart(points, from_zero=from_zero).findall(".//circle")
    assert len(marks) == len(points)
    places = [(float(mark.attrib["cx"]), float(mark.attrib["cy"])) for mark in marks]
    assert all(46 <= x <= 440 and 12 <= y <= 220 for x, y in places)
    for (_, low), a in zip(places, points, strict=True):
        assert all(low >= high for (_, high), b in zip(places, points, strict=True) if b.y > a.y)


@given(_VALUES, _VALUES, st.integers(2, 10))
def test_ticks_span_the_values_with_round_numbers(a: float, b: float, most: int) -> None:
    low, high = sorted((a, b))
    found = ticks(low, high, most)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack and found[-1] >= high - slack
    assert 1 <= len(found) <= most + 3 and found == sorted(found)


def test_ticks_by_hand() -> None:
    assert ticks(0, 19.3, 5) == [0, 5, 10, 15, 20]
    assert ticks(0, 8, 8, whole=True) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert ticks(1, 150, 8, whole=True) == [20, 40, 60, 80, 100, 120, 140]
    assert ticks(0.31, 0.94, 5) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3, 3, 8, whole=True) == [3]


def test_marks_say_their_numbers() -> None:
    chart = _chart([Point(x=1, y=0.5, low=0.25, high=0.75), Point(x=2, y=1.0)], percent=True)
    titles = [title.text for title in chart.findall(".//circle/title")]
    assert titles == ["a, x 1: 50.0\xa0% (25.0\xa0% to 75.0\xa0%)", "a, x 2: 100.0\xa0%"]
    assert chart[1].text == "Over x. a: 50.0\xa0% at 1, 100.0\xa0% at 2."


def test_history_points_take_numbers_only_and_the_last_of_a_step() -> None:
    history: list[dict[str, float | None]] = [
        {"step": 2, "reward": 0.2},
        {"step": 1, "reward": 0.1},
        {"step": 2, "reward": 0.4},
        {"step": 3, "reward": math.nan},
        {"step": 4, "reward": None},
        {"step": 5, "loss": 1.0},
        {"reward": 9.0},
        {"step": 6, "reward": 1},
    ]
    assert [(p.x, p.y) for p in history_points(history, "reward")] == [(1, 0.1), (2, 0.4), (6, 1)]
    assert history_points(history, "accuracy") == []


def test_running_mean() -> None:
    points = [Point(x=i, y=float(i % 2)) for i in range(40)]
    means = running_mean(points)
    assert [p.x for p in means] == [p.x for p in points]
    assert means[0].y == pytest.approx(1 / 3) and means[20].y == pytest.approx(2 / 5)
