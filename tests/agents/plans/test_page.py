"""The review page in a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.plans import PlanDraft, read_reviews
from forethought.agents.plans.review import ReviewServer

from .conftest import make_draft

pytestmark = pytest.mark.browser
Folder = Callable[..., Path]

IMAGE = "<img src=http://127.0.0.1:9/x onerror=\"document.title='boom'\">"
HOSTILE = f"<script>document.title='boom'</script>{IMAGE}\u202e\x1b[2J"


class Page:
    """A reviewer at the page."""

    def __init__(self, browser: Any, url: str, name: str = "Ada", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.fill("#name", name)
        self.press("Enter")
        self.page.wait_for_selector(".step")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def at(self, step: int, position: int | None = None) -> None:
        field = self.page.locator(".step textarea").nth(step)
        field.focus()
        field.evaluate("(e, p) => e.setSelectionRange(p ?? e.value.length, p ?? e.value.length)", position)

    def steps(self) -> list[str]:
        found: list[str] = self.page.evaluate(
            "[...document.querySelectorAll('.step')].map(s => s.querySelector('textarea').value + ' | ' "
            "+ s.querySelector('input').value)"
        )
        return found

    def saved(self) -> None:
        self._until("#saved", "Saved")

    def task(self, number: int) -> None:
        self._until("#number", str(number))

    def _until(self, selector: str, text: str) -> None:
        """Wait without `wait_for_function`: the page's policy allows no code that is made from text."""
        from playwright.sync_api import expect

        expect(self.page.locator(selector)).to_have_text(text)

    def text(self, selector: str) -> str:
        found: str = self.page.locator(selector).inner_text()
        return found


def test_a_plan_is_edited_by_keyboard_and_undone(browser: Any, drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server:
        page = Page(browser, server.url)
        assert page.steps() == ["Find A | ", "Find B | ", "Compare #1 with #2 | 1, 2"]
        page.at(0)
        page.press("Enter")
        page.type("Doubt it")
        assert page.steps() == ["Find A | ", "Doubt it | ", "Find B | ", "Compare #1 with #3 | 1, 3"]
        page.press("Alt+w")
        page.type("1")
        page.press("Alt+w", "Alt+ArrowDown")
        assert page.steps() == ["Find A | ", "Find B | ", "Doubt it | 1", "Compare #1 with #2 | 1, 2"]
        page.at(3, 7)
        page.press("Enter")
        assert page.steps()[3:] == ["Compare | 1, 2", "#1 with #2 | 4"]
        page.press("Backspace")
        assert page.steps()[3:] == ["Compare #1 with #2 | 1, 2"]
        page.at(0)
        page.press("Alt+m")
        assert page.steps() == ["Find A Find B | ", "Doubt it | 1", "Compare #1 with #1 | 1"]
        page.press("Alt+x")
        assert page.steps() == ["Doubt it | ", "Compare #? with #? | "]
        assert "refers to #?" in page.text("#problems")
        for _ in range(8):
            page.press("Control+z")
        assert page.steps() == ["Find A | ", "Find B | ", "Compare #1 with #2 | 1, 2"]
        assert page.page.locator("#undo").is_disabled()
        for _ in range(8):
            page.press("Control+Shift+z")
        assert page.steps() == ["Doubt it | ", "Compare #? with #? | "]
        page.saved()
        plan = server.book.drafts[0].id
        review = server.book.review(plan, "Ada")
        assert review is not None and [s["text"] for s in review.steps] == ["Doubt it", "Compare #? with #?"]
        assert page.complaints == []
        page.context.close()


def test_plans_are_decided_by_keyboard_and_come_from_the_queue(browser: Any, drafts: Folder) -> None:
    with ReviewServer(drafts(3), wanted=1) as server:
        page = Page(browser, server.url)
        ids = [draft.id for draft in server.book.drafts]
        page.press("Alt+a")
        page.task(2)
        page.press("Alt+c")
        page.type("Not a plan.")
        page.press("Alt+r")
        page.task(3)
        page.press("Alt+p")
        page.task(2)
        assert page.text("#decision") == "rejected"
        page.press("Control+z")
        assert page.text("#decision") == "" and page.page.input_value("#comment") == "Not a plan."
        page.press("Control+Enter")
        page.task(3)
        page.press("Alt+a")
        page.page.wait_for_selector("#finished:not([hidden])")
        page.saved()
        reviews = [server.book.review(plan, "Ada") for plan in ids]
        assert [(r.decision, r.comment) for r in reviews if r] == [
            ("accept", ""), ("accept", "Not a plan."), ("accept", ""),
        ]  # fmt: skip
        page.press("Alt+l")
        page.page.wait_for_selector("#found-plans li")
        page.page.fill("#words", "in q1?")
        page.page.wait_for_selector("#found-plans li:only-child")
        page.page.click("#found-plans button")
        page.task(2)
        page.press("Alt+g")
        page.page.wait_for_selector("#agreement-body table")
        assert page.complaints == []
        page.context.close()


def test_what_is_no_plan_cannot_be_accepted(browser: Any, drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server:
        page = Page(browser, server.url)
        page.at(2)
        page.press("Alt+ArrowUp")
        assert "Step 2 cannot wait for step 3" in page.text("#problems")
        assert page.page.locator("#accept").is_disabled()
        page.press("Alt+a", "Control+z")
        page.at(0)
        page.type(" </plan>")
        page.press("Alt+a")  # what only the server knows
        page.page.wait_for_selector("#finished:not([hidden])")
        page.saved()
        review = server.book.review(server.book.drafts[0].id, "Ada")
        assert review is not None and review.decision == "open"
        page.context.close()


def test_pasted_lines_become_steps(browser: Any, drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server:
        page = Page(browser, server.url)
        page.at(0)
        page.page.locator(".step textarea").first.evaluate(
            """(field, text) => {
                const clipboardData = new DataTransfer();
                clipboardData.setData("text/plain", text);
                field.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}));
            }""",
            " or so\r\nThen this\n\nand that",
        )
        assert page.steps() == [
            "Find A or so | ", "Then this | ", "and that | ", "Find B | ", "Compare #1 with #4 | 1, 4",
        ]  # fmt: skip
        page.type("!")
        assert page.steps()[2] == "and that! | "
        page.context.close()


def test_another_tab_is_asked_about_and_loses_nothing(browser: Any, drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewServer(folder) as server:
        first, second = Page(browser, server.url), Page(browser, server.url)
        first.at(0)
        first.type(" first")
        first.saved()
        second.at(1)
        second.type(" second")
        second.page.wait_for_selector("#conflict-dialog[open]")
        assert "Find A first" in second.text("#other-steps") and "Find B second" in second.text("#own-steps")
        second.page.click("#take-other")
        assert second.steps()[:2] == ["Find A first | ", "Find B | "]
        second.press("Control+z")  # what was not taken can still be had
        second.saved()
        assert second.steps()[:2] == ["Find A | ", "Find B second | "]
        first.context.close()
        second.context.close()
    comments = (folder / "reviews.jsonl").read_text()
    assert "Find A first" in comments and "Find B second" in comments


def test_an_open_page_outlives_its_server(browser: Any, drafts: Folder) -> None:
    folder = drafts(2)
    code = f"import sys; from forethought.trainers.cli import main; main(['plans', 'review', {str(folder)!r}])"

    def start() -> tuple[subprocess.Popen[str], str]:
        server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        return server, next(line.strip() for line in server.stdout if line.startswith("http://"))

    server, url = start()
    servers = [server]
    try:
        page = Page(browser, url)
        page.at(0)
        page.type(" saved")
        page.saved()
        server.kill()
        server.wait()
        page.type(" and typed while it was dead")
        page.page.wait_for_selector("#saved.failed")
        reviews, problems = read_reviews(folder)
        assert problems == [] and [r.steps[0]["text"] for p in reviews.values() for r in p.values()] == ["Find A saved"]
        server, again = start()
        servers.append(server)
        assert again == url
        page.saved()
        reviews, _ = read_reviews(folder)
        (review,) = (r for p in reviews.values() for r in p.values())
        assert review.steps[0]["text"] == "Find A saved and typed while it was dead"
        page.context.close()
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_hostile_text_does_nothing(browser: Any, drafts: Folder) -> None:
    draft: PlanDraft = make_draft("q", [(HOSTILE, [])], prompt=HOSTILE, original=HOSTILE)
    with ReviewServer(drafts(1, draft)) as server:
        page = Page(browser, server.url, name=HOSTILE[:79])
        page.press("Alt+l")
        page.page.wait_for_selector("#found-plans li")
        page.press("Escape", "Alt+r")
        page.page.wait_for_selector("#finished:not([hidden])")
        page.press("Alt+g")
        page.page.wait_for_selector("#agreement-body p")
        assert page.complaints == []
        assert page.page.title() == "Plan review" and page.page.locator("img").count() == 0
        assert all(url.startswith(server.url) for url in page.requests)
        assert "U+202E" in page.text("#prompt") or "U+202E" in page.page.text_content("#prompt")
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_and_is_named_for_screen_readers(browser: Any, drafts: Folder, scheme: str, width: int) -> None:
    with ReviewServer(drafts(2)) as server:
        page = Page(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.page.evaluate(
            "[...document.querySelectorAll('.step textarea')].every(e => e.clientHeight >= e.scrollHeight)"
        )
        red = int(page.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
        assert red > 200 if scheme == "light" else red < 60
        unnamed = page.page.evaluate(
            "[...document.querySelectorAll('button, input, textarea, select')].filter(e => e.offsetParent && "
            "!(e.ariaLabel || e.labels?.length || e.textContent.trim())).length"
        )
        assert unnamed == 0
        page.press("Tab")
        for _ in range(25):  # every control can be reached
            page.press("Tab")
            if page.page.evaluate("document.activeElement.id") == "accept":
                break
        else:
            pytest.fail("Tab does not reach the button that accepts")
        page.press("Alt+k")
        page.press("Escape")
        assert page.page.locator("dialog[open]").count() == 0
        page.context.close()
