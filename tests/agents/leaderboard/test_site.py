from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forethought.agents.evaluation import Estimate
from forethought.agents.evaluation.horizon import TaskOutcome, fit_horizon
from forethought.agents.leaderboard import RunError, RunFiles, Suite, compare_results, read_result
from forethought.agents.leaderboard.result import EntryResult
from forethought.agents.leaderboard.site import build_site
from forethought.agents.leaderboard.site.board import horizon_text
from forethought.agents.leaderboard.site.ranking import frontier

HOSTILE = "<script>boom()</script><img src=x onerror=boom()>\" onclick='x' \u202e\x1b[31m"


class _Page(HTMLParser):
    """Tags, links and text of a page; every element must be closed."""

    VOID = ("meta", "br", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.events: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.events += [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def copies(clean: Path, folder: Path, *names: str) -> list[Path]:
    made = []
    for number, name in enumerate(names):
        place = Path(shutil.copytree(clean, folder / str(number)))
        edit(place / "result.json", lambda data, name=name: data["agent"].update(name=name))  # type: ignore[misc]
        made.append(place)
    return made


def test_the_site_of_one_run(clean: Path, suite: Suite, tmp_path: Path) -> None:
    built = build_site([clean], tmp_path / "site", title="All of them")
    assert built.shown == 1 and built.notes == []
    index = _Page(tmp_path / "site/index.html")
    assert index.links == ["runs/agent.html"] and suite.sha256 in index.text and "All of them" in index.text
    run = _Page(tmp_path / "site/runs/agent.html")
    assert run.links == ["../index.html", "../episodes/agent.html"]
    for part in ("By trait", "Accuracy against cost", "50\xa0% horizon", "All numbers", "What was run", "Skills"):
        assert part in run.text
    episodes = _Page(tmp_path / "site/episodes/agent.html")
    assert "wört" in episodes.text and "✗ wrong" in episodes.text and "✓ right" in episodes.text
    for page in (index, run, episodes):
        assert page.events == [] and "img" not in page.tags
        assert page.tags.count("script") == (page is index)


def test_pages_name_no_address_but_their_own(clean: Path, tmp_path: Path) -> None:
    build_site([clean], tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r"(https?:)?//[a-z]", path.read_text("utf-8")), path
        assert "default-src 'none'" in path.read_text("utf-8")


def test_hostile_names_and_episodes_are_text(clean: Path, tmp_path: Path) -> None:
    (place,) = copies(clean, tmp_path / "runs", HOSTILE)
    rows = place / "entries/echo/shard-1-of-1/episodes.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines:
        line["turns"][0]["text"] = line["turns"][0]["observation"] = line["task"]["prompt"] = HOSTILE
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    edit(place / "result.json", lambda data: data["entries"][0]["window"].update(policy=HOSTILE))
    assert build_site([tmp_path / "runs"], tmp_path / "site", title=HOSTILE).shown == 1
    pages = [_Page(path) for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) == 3
    for page in pages:
        assert page.events == [] and "img" not in page.tags and page.tags.count("script") <= 1
        assert "<script>boom()" in page.text and "\x1b" not in page.text and "\u202e" not in page.text


def test_two_runs_of_one_name(clean: Path, tmp_path: Path) -> None:
    copies(clean, tmp_path / "runs", "twin", "Twin", "twin", "")
    built = build_site([tmp_path / "runs"], tmp_path / "site")
    assert built.shown == 4 and built.notes == ["2 runs are named 'twin': the board numbers them"]
    index = _Page(tmp_path / "site/index.html")
    assert len(set(index.links)) == 4 and "twin (2)" in index.text
    assert all((tmp_path / "site" / link).exists() for link in index.links)


def test_ranks_and_p_values(clean: Path, tmp_path: Path) -> None:
    places = copies(clean, tmp_path / "runs", "a", "b", "c")

    def improve(data: dict[str, Any]) -> None:
        data["accuracy"]["value"] = 1.0
        for entry in data["entries"]:
            for task in entry["tasks"]:
                task[1] = task[2]

    edit(places[1] / "result.json", improve)
    build_site([tmp_path / "runs"], tmp_path / "site")
    html = (tmp_path / "site/index.html").read_text()
    rows = re.findall(r'class="rank" data-v="(\d)".*?html">(\w)</a>.*?</tr>', html)
    assert rows == [("1", "b"), ("2", "a"), ("2", "c")]
    compared = compare_results(*(read_result(RunFiles(places[i])) for i in (1, 0)))["all"]["accuracy"]
    assert re.findall(r'data-v="([\d.]*)">(?:p|&lt;|p &lt; )?[ \d.]*</td>', html)
    assert f'data-v="{compared.p_value:.8g}"' in html


def test_what_is_not_sound_is_said_and_not_ranked(clean: Path, suite: Suite, tmp_path: Path, build_suite: Any) -> None:
    good, damaged, forged, foreign, halved, newer = copies(clean, tmp_path / "runs", "good", *"vwxyz")
    edit(good / "result.json", lambda data: data["agent"].update(name="agent"))
    (damaged / "result.json").write_text("{")
    edit(foreign / "suite.json", lambda data: data.update(version="2"))
    (halved / "result.json").unlink()
    edit(newer / "result.json", lambda data: data.update(schema="forethought/result/9"))
    (tmp_path / "runs" / "nothing").mkdir()
    (tmp_path / "runs" / "file.txt").touch()
    built = build_site([tmp_path / "runs", tmp_path / "missing"], tmp_path / "site", suite=suite, verify=True)
    assert built.shown == 1 and forged.exists()
    told = "\n".join(built.notes)
    for sentence in (
        "result.json: not JSON",
        "agent.name is 'w', computed again 'agent'",
        "answers another suite: s 2",
        "result.json is missing",
        "found 'forethought/result/9'",
        "missing: not ranked",
    ):
        assert sentence in told, (sentence, told)
    page = _Page(tmp_path / "site/index.html")
    assert "Not ranked" in page.text and "answers another suite" in page.text and page.links == ["runs/agent.html"]
    assert "✓" in page.text


def test_huge_and_damaged_episodes_are_left_out(run_folder: Path, tmp_path: Path) -> None:
    rows = run_folder / "entries/echo/shard-1-of-1/episodes.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    huge = lines[0].replace(b"garbage", b"garbage " * (50 * 2**17))
    rows.write_bytes(huge + b"nonsense\n" + b'{"turns": 3}\n' + lines[1] + lines[2][:-9])
    assert build_site([run_folder], tmp_path / "site").shown == 1
    page = _Page(tmp_path / "site/episodes/agent.html")
    assert "an episode of more than 4 MiB, or one cut off, is not shown" in page.text
    assert "a damaged line is not shown" in page.text and "a row is no episode" in page.text
    assert (tmp_path / "site/episodes/agent.html").stat().st_size < 200_000


def test_a_site_is_replaced_and_nothing_else_is(clean: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    copies(clean, tmp_path / "runs", "a", "b")
    build_site([tmp_path / "runs"], site)
    assert {path.name for path in (site / "runs").iterdir()} == {"a.html", "b.html"}
    build_site([tmp_path / "runs" / "0"], site)
    assert {path.name for path in (site / "runs").iterdir()} == {"a.html"}
    with pytest.raises(RunError, match="holds something else than a leaderboard"):
        build_site([clean], tmp_path / "runs")


def test_an_empty_board_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert build_site([tmp_path / "runs"], tmp_path / "site").shown == 0
    assert "no run to show" in _Page(tmp_path / "site/index.html").text


def test_the_frontier() -> None:
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.1), (2.0, 0.6), (9.0, 0.6), (10.0, 0.9)]
    assert frontier(points) == [(1.0, 0.2), (2.0, 0.6), (10.0, 0.9)]


@pytest.mark.parametrize(
    ("right", "text"),
    [
        (lambda n: 4 * (n < 5), r"4\.(49|50) \("),
        (lambda n: 4, "more than 8"),
        (lambda n: 0, "less than 0"),
        (lambda n: n // 2, "none"),
    ],
)
def test_horizons_in_words(right: Callable[[int], int], text: str, clean: Path) -> None:
    entry = read_result(RunFiles(clean)).entries[0]
    horizon = fit_horizon([TaskOutcome(n, right(n), 4) for n in range(9) for _ in range(4)])
    changed = EntryResult(
        name=entry.name, env=entry.env, window=entry.window, tasks_sha256="", card=entry.card, money=Estimate(),
        horizon=horizon, tasks=entry.tasks,
    )  # fmt: skip
    assert re.match(text, horizon_text(changed))
