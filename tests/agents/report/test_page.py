from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.agents.evaluation import ReportCard
from forethought.agents.report import Report, SampleEpisode, render_page, write_report
from forethought.agents.report.escape import escape, one_line, printable

HOSTILE = (
    "</script><script>boom()</script><img src=x onerror=boom()>\" onclick='x' "
    "&lt;b&gt; &#0; ]]> <!-- {{x}} </pre></svg>"
)
CONTROLS = "\x1b[31mred\x1b]0;t\x07 \x00\r\x7f\x9b \u202etxt.exe\u2066 \ud800 \uffff \ufeff"


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def ids(self) -> list[str]:
        return [value for name, value in self.attributes if name == "id"]


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_inert_and_can_be_written(text: str) -> None:
    safe = escape(text)
    safe.encode("utf-8")
    assert not set(safe) & set("<>\"'\x00\x1b\r\x9b\u202e")
    assert _Page(f"<p>{safe}</p>").tags == {"p": 1}
    assert "\n" not in one_line(text)


def test_what_cannot_be_shown_is_made_visible() -> None:
    assert printable("a\x1b[0m\tb\n\x00\x7f") == "a\u241b[0m\tb\n\u2400\u2421"
    assert printable("\u202eabc\ud800") == "\u2308U+202E\u2309abc\u2308U+D800\u2309"


def test_hostile_text_changes_nothing_but_text(make_report: Callable[..., Report]) -> None:
    plain, hostile = (_Page(render_page(make_report(text))) for text in ("text", HOSTILE))
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    shown = "".join(hostile.text)
    for place in ("title", "summary", "fact", "command", "before", "after", "comparison", "target", "goal", "reached",
                  "task", "prompt", "turn", "observation", "expected", "note"):  # fmt: skip
        assert f"{place} {HOSTILE}" in shown, place


def test_control_characters_never_reach_the_page(make_report: Callable[..., Report], tmp_path: Path) -> None:
    page = write_report(tmp_path / "new" / "page.html", make_report(CONTROLS))
    text = page.read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\uffff]", text)
    assert list(page.parent.iterdir()) == [page]


def test_the_page_asks_the_network_for_nothing(make_report: Callable[..., Report]) -> None:
    html = render_page(make_report())
    page = _Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
    assert not {
        name for name, _ in page.attributes if name in ("src", "href", "srcset", "style") or name.startswith("on")
    }
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_the_page_is_accessible(make_report: Callable[..., Report]) -> None:
    html = render_page(make_report())
    page = _Page(html)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    wanted = {part for name, value in page.attributes if name == "aria-labelledby" for part in value.split()}
    assert wanted <= set(ids)
    assert page.tags["h1"] == 1 and page.tags["main"] == 1
    assert page.tags["table"] == page.tags["caption"] and page.tags["table"] >= 5
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    charts = re.findall(r'<svg class="chart.*?</svg>', html, re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["role"] == "img" and root[0].tag == "title" and root[1].tag == "desc"
        assert root[1].text is not None and "after text" in root[1].text


def test_the_page_says_what_was_measured(make_report: Callable[..., Report]) -> None:
    text = " ".join(" ".join(_Page(render_page(make_report())).text).split())
    assert "1 met, 1 missed, 1 not measured." in text
    assert "90.0 % 88.0 to 92.0" in text
    assert "\N{MINUS SIGN}0.01 \N{MINUS SIGN}0.03 to 0.01" in text
    assert "40.0 38.0 to 42.0 p < 0.001 30" in text
    assert "What the task needs (oracle)" in text


def test_a_report_may_lack_anything(make_report: Callable[..., Report]) -> None:
    assert "<h1>alone</h1>" in render_page(Report(title="alone"))
    html = render_page(Report(title="empty card", runs={"a": ReportCard()}, histories={"a": [{"loss": 1.0}]}))
    assert '<svg class="chart' not in html
    full = make_report()
    for name in ("summary", "facts", "commands", "runs", "comparisons", "histories", "targets", "samples", "notes"):
        assert render_page(make_report(**{name: type(getattr(full, name))()}))
    assert render_page(make_report(oracle=None))


@pytest.mark.parametrize("size", [6000, 50_000])
def test_long_text_is_cut(make_report: Callable[..., Report], size: int) -> None:
    sample = SampleEpisode(
        run="a",
        task_id="t",
        prompt="p",
        turns=[("x" * size, "")],
        expected=None,
        correct=True,
        difficulty=None,
        sampled_tokens=1,
    )
    html = render_page(Report(title="long", samples=[sample]))
    assert html.count("x" * 6000) == 1
    assert ("[44,000 more characters]" in html) == (size > 6000)


def test_colours_can_be_told_from_the_paper() -> None:
    css = (Path(__file__).parents[3] / "agents" / "report" / "page.css").read_text("utf-8")
    light, dark = css.split("prefers-color-scheme: dark", 1)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name, least in [*((f"c{i}", 3.0) for i in range(6)), *((n, 4.5) for n in ("ink", "soft", "good", "bad"))]:
            assert _contrast(colours[name], colours["paper"]) >= least, name


def _contrast(a: str, b: str) -> float:
    """WCAG contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(a), luminance(b)))
    return (bright + 0.05) / (dark + 0.05)
