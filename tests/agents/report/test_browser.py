"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.report import Report, write_report

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='boom'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='boom'\">"


def _open(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    page = browser.new_context(**options).new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    return page, complaints, requests


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_renders(
    browser: Any, make_report: Callable[..., Report], tmp_path: Path, scheme: str, width: int
) -> None:
    path = write_report(tmp_path / "page.html", make_report())
    page, complaints, requests = _open(
        browser, path, color_scheme=scheme, viewport={"width": width, "height": 800}, java_script_enabled=True
    )
    assert complaints == [] and requests == [path.as_uri()]
    charts = page.locator("svg.chart")
    assert charts.count() == 5
    for i in range(5):
        box = charts.nth(i).bounding_box()
        assert box["width"] > 300 and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert red > 200 if scheme == "light" else red < 60
    line = page.locator("svg.chart .s0 path.line").first
    assert line.evaluate("e => getComputedStyle(e).stroke") not in ("none", "rgb(0, 0, 0)")
    page.context.close()


def test_hostile_text_does_nothing(browser: Any, make_report: Callable[..., Report], tmp_path: Path) -> None:
    path = write_report(tmp_path / "page.html", make_report(HOSTILE))
    page, complaints, requests = _open(browser, path)
    assert complaints == [] and requests == [path.as_uri()]
    assert page.title() == f"title {HOSTILE}"
    assert page.locator("script, img").count() == 0
    page.context.close()


def test_it_can_be_used_by_keyboard_without_script(
    browser: Any, make_report: Callable[..., Report], tmp_path: Path
) -> None:
    path = write_report(tmp_path / "page.html", make_report())
    page, _, _ = _open(browser, path, java_script_enabled=False)
    second = page.locator("details.sample").nth(1)
    assert second.get_attribute("open") is None
    second.locator("summary").focus()
    page.keyboard.press("Enter")
    assert second.get_attribute("open") is not None
    page.context.close()
