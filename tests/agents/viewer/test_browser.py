"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import Episode, EpisodeWriter
from forethought.agents.viewer import RunSet, ViewerServer

from .conftest import HOSTILE, append_line, plain_episode, rich_episode

pytestmark = pytest.mark.browser

Open = Callable[..., Any]


def expect(locator: Any) -> Any:
    """Playwright's: waits without evaluating code in the page, which the page's policy forbids."""
    from playwright.sync_api import expect as wait_until

    return wait_until(locator)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a page on runs; afterwards nothing may have been asked for elsewhere, and nothing complained of."""
    closing: list[Callable[[], None]] = []
    complaints: list[str] = []
    requests: list[str] = []
    urls: list[str] = []

    def open_(*folders: Path, address: str = "", **options: Any) -> Any:
        server = ViewerServer(RunSet(folders))
        page = browser.new_context(**options).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server.url + address)
        page.wait_for_selector("#rows li", state="attached")
        closing.extend((page.context.close, server.close))
        urls.append(server.url)
        return page

    yield open_
    for close in closing:
        close()
    assert complaints == []
    assert all(request.startswith(urls[0]) for request in requests)


@pytest.fixture
def two_runs(write_run: Callable[..., Path]) -> tuple[Path, Path]:
    others = [plain_episode(i, reward=i / 10) for i in range(1, 10)]
    return (
        write_run([rich_episode(0, scores={"correct": 0.0}), *others], "base"),
        write_run([*others, rich_episode(0)], "trained"),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1300])
def test_an_episode_is_shown(open_page: Open, two_runs: tuple[Path, Path], scheme: str, width: int) -> None:
    page = open_page(
        two_runs[0], address="#run=0&line=0", color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    page.wait_for_selector("article.turn")
    assert page.locator("article.turn").count() == 10
    assert page.locator(".plan").count() == 4 and page.locator(".plan.old").count() == 1
    assert page.locator(".contexts li").count() == 4 and page.locator(".contexts li.critical").count() == 3
    assert page.locator(".carried").inner_text() == "The archive has nothing."
    assert page.locator(".scores tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert red > 200 if scheme == "light" else red < 60
    assert page.locator("#list").is_visible() is (width > 1000)


def test_search_and_filters(open_page: Open, two_runs: tuple[Path, Path]) -> None:
    page = open_page(two_runs[0])
    assert page.locator("#counts").inner_text() == "10 of 10 episodes"
    page.get_by_label("re-planned").check()
    expect(page.locator("#rows li")).to_have_count(1)
    page.get_by_label("re-planned").uncheck()
    page.get_by_label("Search").fill("question 7")
    expect(page.locator("#rows li .id")).to_have_text(["task-7/0"])
    page.get_by_label("Search").fill("")
    page.get_by_label("from").fill("0.85")
    expect(page.locator("#rows li")).to_have_count(2)


def test_keys(open_page: Open, two_runs: tuple[Path, Path]) -> None:
    page = open_page(two_runs[0])
    page.keyboard.press("j")
    page.wait_for_selector("article.turn")
    for _ in range(2):
        page.keyboard.press("n")
    assert page.evaluate("document.activeElement.id") == "a-turn-2"
    page.keyboard.press("c")
    page.wait_for_selector("#a-turn-10 .tokens span.lp2")
    assert page.locator("#a-turn-2 .tokens").inner_text().startswith("<think>Again.</think>")
    page.keyboard.press("c")
    expect(page.locator(".tokens")).to_have_count(0)
    page.keyboard.press("j")
    expect(page.locator("h2")).to_have_text("task-1/0")
    page.keyboard.press("/")
    page.keyboard.type("task-3")
    expect(page.locator("#rows li .id")).to_have_text(["task-3/0"])
    page.keyboard.press("Tab")
    page.locator("#rows a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h2")).to_have_text("task-3/0")
    page.keyboard.press("Escape")
    expect(page.locator("body")).not_to_have_class("reading")


def test_two_runs_side_by_side(open_page: Open, two_runs: tuple[Path, Path]) -> None:
    page = open_page(*two_runs, address="#run=0&line=0")
    page.wait_for_selector("article.turn")
    page.get_by_label("Beside it").select_option(label="trained")
    page.wait_for_selector("#b-turn-10")
    assert page.locator(".verdict").all_inner_texts() == ["✗ Wrong", "✓ Right"]
    assert page.locator("h2").all_inner_texts() == ["task-0/0", "task-0/0"]


def test_new_episodes_of_a_running_run_appear(open_page: Open, write_run: Callable[..., Path]) -> None:
    folder = write_run([plain_episode(0)])
    page = open_page(folder)
    with EpisodeWriter(folder) as writer:
        writer.append(plain_episode(1))
    expect(page.locator("#rows li")).to_have_count(2)


def test_many_turns_come_in_stretches(open_page: Open, write_run: Callable[..., Path]) -> None:
    episode: Episode = plain_episode(0)
    episode.turns = [episode.turns[1]] * 150
    episode.plans = []
    page = open_page(write_run([episode]), address="#run=0&line=0")
    page.wait_for_selector("#a-turn-100")
    assert page.locator("article.turn").count() == 100
    page.get_by_text("Show more turns").click()
    page.wait_for_selector("#a-turn-150")


def test_what_is_damaged_is_said(open_page: Open, write_run: Callable[..., Path]) -> None:
    folder = write_run([plain_episode(0)])
    append_line(folder, b'{"half": \n')
    append_line(folder, b'{"unfinished"')
    page = open_page(folder, address="#run=0&line=1")
    page.wait_for_selector("#episode .problem")
    assert "not JSON" in page.locator("#episode .problem").inner_text()
    assert page.locator("#problems li").count() == 2


def test_hostile_text_does_nothing(open_page: Open, write_run: Callable[..., Path]) -> None:
    hostile = rich_episode(0, HOSTILE, task_id=f"id {HOSTILE}", answer=HOSTILE, stop_reason=HOSTILE, fault=HOSTILE)
    hostile.scores[HOSTILE] = 1.0
    hostile.turns[0].error = HOSTILE
    hostile.turns[0].calls[0].name = HOSTILE
    hostile.turns[0].calls[0].arguments = {HOSTILE: HOSTILE}
    long = plain_episode(1, prompt="x" * 100_000)
    page = open_page(write_run([hostile, long]), address="#run=0&line=0", viewport={"width": 1300, "height": 800})
    page.wait_for_selector("article.turn")
    page.keyboard.press("c")
    page.wait_for_selector("#a-turn-10 .tokens")
    assert page.locator("img, script:not([src='main.js']), a[href^='http://127.0.0.1:9']").count() == 0
    assert page.title().startswith("id <script>")
    text = page.evaluate("document.body.textContent")
    assert not any(char in text for char in "\x00\x07\x1b\x9b\u202e\u2066") and "\u2308U+202E\u2309" in text
    page.keyboard.press("j")
    expect(page.locator("h2")).to_have_text("task-1/0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1300
    page.get_by_text("more characters").click()
    assert page.evaluate("document.querySelector('.prompt').textContent.length") > 60_000
