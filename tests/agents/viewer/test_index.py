"""The index of a run: filters, search, and a file that grows, breaks off or is replaced."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forethought.agents import EpisodeWriter
from forethought.agents.viewer import Flag, Query, RunIndex, RunSet, ViewerError, parse_flags
from forethought.agents.viewer.lines import GrowingFile
from forethought.agents.viewer.spool import Spool

from .conftest import append_line, first_row, plain_episode, rich_episode

Open = Callable[[Path], RunIndex]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (Query(), [0, 1, 2, 3, 4, 6, 7, 8, 9]),
        (Query(flags=Flag.FAILED), [3]),
        (Query(flags=Flag.REPLANNED), [0]),
        (Query(flags=Flag.LOOPED | Flag.SUB_CALLS | Flag.SUMMARISED | Flag.FORMAT_ERROR), [0]),
        (Query(flags=Flag.TRUNCATED), [4]),
        (Query(flags=Flag.FAULT), [5]),
        (Query(flags=Flag.FAILED | Flag.TRUNCATED), []),
        (Query(search="task-8"), [8, 9]),
        (Query(search="  WHO question 7"), [7]),
        (Query(search="nothing like it"), []),
        (Query(low=0.7, high=0.8), [7, 8]),
        (Query(score="correct", high=0.5), [3]),
        (Query(task_id="task-8"), [8, 9]),
        (Query(search="task-8", sort="-line"), [9, 8]),
        (Query(sort="-reward"), [0, 9, 8, 7, 6, 4, 3, 2, 1]),
        (Query(sort="-turns", flags=Flag.REPLANNED), [0]),
    ],
)
def test_queries(mixed_run: Path, open_index: Open, query: Query, lines: list[int]) -> None:
    assert open_index(mixed_run).find(query).tolist() == lines


def test_mistakes_in_a_query_are_explained(mixed_run: Path, open_index: Open) -> None:
    index = open_index(mixed_run)
    with pytest.raises(ViewerError, match=r"no score 'style' in run: it has reward, correct, cost"):
        index.find(Query(score="style", low=0))
    with pytest.raises(ViewerError, match="cannot sort by 'colour'"):
        index.find(Query(sort="colour"))
    with pytest.raises(ViewerError, match="no filter 'odd': expected failed, replanned"):
        parse_flags(["odd"])
    with pytest.raises(ViewerError, match="no line 99"):
        index.card(98)


def test_a_card_has_what_the_list_shows(mixed_run: Path, open_index: Open) -> None:
    card = open_index(mixed_run).card(3)
    assert card["id"] == "task-3/0" and card["flags"] == ["failed"] and card["scores"] == {"correct": 0.0, "cost": 0.25}
    assert card["reward"] == pytest.approx(0.3) and (card["turns"], card["difficulty"]) == (2, 2.0)


def test_lines_of_a_growing_run_appear(write_run: Callable[..., Path], open_index: Open) -> None:
    folder = write_run([plain_episode(0)])
    index = open_index(folder)
    with EpisodeWriter(folder) as writer:
        writer.append(rich_episode(1))
    until(lambda: index.progress().lines == 2)
    assert index.find(Query(flags=Flag.REPLANNED)).tolist() == [1]


def test_an_unfinished_last_line_is_said_and_read_when_it_is_whole(
    write_run: Callable[..., Path], open_index: Open
) -> None:
    folder = write_run([plain_episode(0)])
    line = json.dumps({**first_row(folder), "id": "late/0"}).encode() + b"\n"
    append_line(folder, line[:100])
    index = open_index(folder)
    assert index.progress().lines == 1 and "the last line is not finished (100 bytes)" in index.progress().problems[0]
    append_line(folder, line[100:])
    until(lambda: index.progress().lines == 2)
    assert index.card(1)["id"] == "late/0" and index.progress().problems == ()


def test_damaged_lines_do_not_hide_the_others(write_run: Callable[..., Path], open_index: Open) -> None:
    folder = write_run([plain_episode(0)])
    append_line(folder, b'{"id": \n\n\x00\xff\n')
    append_line(folder, {**first_row(folder), "schema": "forethought/episode/9", "id": "new/0"})
    index = open_index(folder)
    progress = index.progress()
    assert (progress.lines, progress.damaged, progress.unsound) == (5, 3, 1)
    assert index.find(Query(flags=Flag.DAMAGED)).tolist() == [1, 2, 3]
    assert index.find(Query(flags=Flag.UNSOUND)).tolist() == [4]
    assert "not JSON" in index.card(1)["stop_reason"]


def test_a_run_that_was_begun_again_is_read_again(write_run: Callable[..., Path], open_index: Open) -> None:
    folder = write_run([plain_episode(i) for i in range(5)])
    index = open_index(folder)
    other = write_run([rich_episode(7)], "other")
    (other / "episodes.jsonl").replace(folder / "episodes.jsonl")
    until(lambda: index.progress().lines == 1)
    assert index.card(0)["id"] == "task-7/0" and index.progress().generation == 1
    (folder / "episodes.jsonl").write_bytes(b"")
    until(lambda: index.progress().lines == 0)


def test_lines_longer_than_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [b"a" * (9 << 20), b"", b"b" * (4 << 20), b"c"]
    path.write_bytes(b"\n".join(lines) + b"\nrest")
    file = GrowingFile(path)
    found = list(file.new_lines())
    assert [bytes(line.data) for line in found] == lines
    data = path.read_bytes()
    assert all(data[line.offset : line.offset + line.length] == line.data for line in found)
    assert file.position == len(data) - 4 and list(file.new_lines()) == []


def test_texts_beside_memory() -> None:
    spool = Spool()
    texts = [f"text {i} {'x' * (i % 5000)}\n".encode() for i in range(4000)]
    for text in texts:
        spool.append(text)
    assert [spool[0], spool[1999], spool[3999]] == [texts[0], texts[1999], texts[3999]]
    assert list(spool.containing(b"text 399")) == [399, *range(3990, 4000)]
    spool.close()


def test_the_parts_of_a_run_are_found(write_run: Callable[..., Path], tmp_path: Path) -> None:
    write_run([plain_episode(0)], "out/eval/rl")
    write_run([plain_episode(0)], "out/eval/sft")
    assert names(tmp_path / "out") == ["eval/rl", "eval/sft"]
    assert names(tmp_path / "out/eval/rl") == ["rl"]
    with pytest.raises(ViewerError, match=r"no episodes in .*empty: expected a file episodes.jsonl"):
        (tmp_path / "empty").mkdir()
        names(tmp_path / "empty")
    with pytest.raises(ViewerError, match="no run at"):
        names(tmp_path / "nowhere")


def names(*folders: Path) -> list[str]:
    return [run.name for run in RunSet(folders).runs]


def test_two_runs_of_one_name_can_be_told_apart(write_run: Callable[..., Path], tmp_path: Path) -> None:
    first, second = write_run([plain_episode(0)], "a/run"), write_run([plain_episode(0)], "b/run")
    other = write_run([plain_episode(0)], "c/part/run").parent
    assert names(first, second) == [str(first), str(second)]
    assert names(first, other) == [str(first), f"{other}: run"]


def test_parts_that_a_recipe_begins_later_join(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run([plain_episode(0)], "out/sft")
    runs = RunSet([tmp_path / "out"])
    write_run([plain_episode(0)], "out/eval")
    runs.look()
    assert [run.name for run in runs.runs] == ["sft"], "it has just looked"
    monkeypatch.setattr("forethought.agents.viewer.runs._LOOK_EVERY", 0.0)
    runs.look()
    assert [run.name for run in runs.runs] == ["sft", "eval"]
    runs.close()
