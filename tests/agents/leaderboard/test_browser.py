"""The site in a real browser, from files, without a network."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.leaderboard.site import build_site

pytestmark = pytest.mark.browser
RUNS = 12
HOSTILE = "<script>document.title='boom'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='boom'\">"


@pytest.fixture(scope="module")
def site(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for number in range(RUNS):
        place = shutil.copytree(clean, folder / "runs" / str(number))
        data = json.loads((place / "result.json").read_text())
        data["agent"]["name"] = HOSTILE if number == 0 else f"agent {number}"
        data["accuracy"]["value"] = number / RUNS
        data["sampled_tokens"] = float((7 * number) % RUNS + 1)
        (place / "result.json").write_text(json.dumps(data))
    build_site([folder / "runs"], folder / "site")
    return folder / "site"


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
@pytest.mark.parametrize("name", ["index.html", "runs/agent-3.html", "episodes/agent-3.html"])
def test_pages_render(browser: Any, site: Path, scheme: str, width: int, name: str) -> None:
    path = site / name
    page, complaints, requests = _open(
        browser, path, color_scheme=scheme, viewport={"width": width, "height": 800}
    )  # fmt: skip
    assert complaints == [] and requests == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert red > 200 if scheme == "light" else red < 60
    for i in range(page.locator("svg.chart").count()):
        assert page.locator("svg.chart").nth(i).bounding_box()["width"] > 250
    page.context.close()


def _column(page: Any, number: int) -> list[float]:
    cells: list[str] = page.evaluate(
        "n => Array.from(document.querySelectorAll('tbody tr:not([hidden])'), r => r.cells[n].dataset.v)", number
    )
    return [float(cell) for cell in cells]


def test_sorting_by_mouse_and_keyboard(browser: Any, site: Path) -> None:
    page, complaints, _ = _open(browser, site / "index.html")
    tokens = page.locator("thead th", has_text="Sampled tokens")
    index = tokens.evaluate("th => th.cellIndex")
    tokens.locator("button").click()
    assert tokens.get_attribute("aria-sort") == "ascending" and page.locator("th[aria-sort]").count() == 1
    assert _column(page, index) == sorted(_column(page, index))
    tokens.locator("button").focus()
    page.keyboard.press("Enter")
    assert tokens.get_attribute("aria-sort") == "descending"
    assert _column(page, index) == sorted(_column(page, index), reverse=True)
    page.locator("thead button", has_text="Agent").click()
    names = page.locator("tbody th").all_inner_texts()
    assert names == sorted(names, key=str.lower) and complaints == []
    page.locator("thead button", has_text="Accuracy").click()
    assert _column(page, 2) == sorted(_column(page, 2), reverse=True)
    page.context.close()


def test_filtering(browser: Any, site: Path) -> None:
    page, complaints, _ = _open(browser, site / "index.html")
    page.get_by_label("Find").fill("AGENT 1")
    assert page.locator("tbody tr:visible").count() == 3  # 1, 10, 11
    assert page.locator("output").inner_text() == f"3 of {RUNS} runs"
    page.get_by_label("Accuracy of at least, %").fill("50")
    assert page.locator("tbody tr:visible").count() == 2
    page.get_by_label("Find").fill("")
    assert page.locator("tbody tr:visible").count() == 6
    assert not page.get_by_label("verified only").is_visible() and complaints == []
    page.context.close()


def test_it_is_whole_without_a_script(browser: Any, site: Path) -> None:
    page, _, _ = _open(browser, site / "index.html", java_script_enabled=False)
    assert page.locator("tbody tr:visible").count() == RUNS
    assert not page.locator(".controls").is_visible() and page.locator("thead button").count() == 0
    page.get_by_role("link", name="agent 3", exact=True).click()
    page.get_by_role("link", name="A sample of its episodes").click()
    assert page.locator("h1").inner_text() == "Episodes of agent 3"
    page.get_by_role("link", name="← Leaderboard").click()
    assert page.url == (site / "index.html").as_uri()
    page.context.close()


def test_hostile_names_do_nothing(browser: Any, site: Path) -> None:
    page, complaints, requests = _open(browser, site / "index.html")
    assert page.title() == "Leaderboard" and page.get_by_text(HOSTILE).count() >= 1
    page.get_by_role("link", name=HOSTILE).click()
    assert page.title() == HOSTILE and complaints == [] and len(requests) == 2
    page.context.close()


def test_screen_readers_are_told_what_is_there(browser: Any, site: Path) -> None:
    for name in ("index.html", "runs/agent-3.html"):
        page, _, _ = _open(browser, site / name)
        assert page.locator("html[lang]").count() == page.locator("h1").count() == page.locator("main").count() == 1
        assert page.locator("svg.chart:not([role=img][aria-labelledby])").count() == 0
        assert page.evaluate("document.querySelectorAll('tbody tr > :first-child:not(th):not(.rank)').length") == 0
        assert page.locator(".scroll:not([role=region][aria-label][tabindex='0'])").count() == 0
        unnamed = (
            "Array.from(document.querySelectorAll('input')).filter(i => !i.labels.length || !i.labels[0].textContent)"
        )
        assert page.evaluate(f"{unnamed}.length") == 0
        levels = page.evaluate("Array.from(document.querySelectorAll('h1,h2,h3'), h => Number(h.tagName[1]))")
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        page.context.close()
