from __future__ import annotations

import io

import pytest

from forethought.trainers.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("forethought.trainers.progress.time.monotonic", lambda: now[0])
    return now


def test_plain_lines_come_seldom(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(stream, every=10)
    for text in ("a", "b", "c"):
        progress.update(text)
        clock[0] += 6
    progress.note("done")
    assert stream.getvalue() == "a\nc\ndone\n"


def test_a_terminal_has_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    stream = Terminal()
    progress = Progress(stream)
    progress.update("a long line of text")
    progress.note("stays")
    assert stream.getvalue() == "\r\x1b[2Ka long line\r\x1b[2Kstays\n"


def test_processes_that_share_a_terminal_rewrite_no_line() -> None:
    stream = Terminal()
    Progress(stream, prefix="[x] ").update("one of several")
    assert stream.getvalue() == "[x] one of several\n"


def test_a_counter_tells_what_is_left(clock: list[float]) -> None:
    stream = io.StringIO()
    counter = Progress(stream, every=0).counter("work", 100)
    counter.show(20)
    clock[0] += 30
    counter.show(40, "loss 1")
    clock[0] += 90
    counter.show(100)
    # 20 in 30 seconds since the first sign of life: what was done before is not counted as fast.
    assert stream.getvalue().splitlines() == ["work  20/100", "work  40/100  loss 1  1:30 left", "work  100/100"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (59.7, "1:00"), (7203, "2:00:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
