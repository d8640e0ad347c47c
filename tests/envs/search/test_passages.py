"""Every corpus format is read as a stream, and a bad row is named by its line."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from forethought.envs.search import DataError, Passage, content_id, read_passages
from forethought.envs.search import passages as module

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "Éire", "text": "An island.\nGreen [really] {yes}."},
    {"id": 7, "text": 'He said "]}, {" once.'},
    {"title": None, "text": "No title, no id."},
]
EXPECTED = [
    Passage("a", "Éire", "An island.\nGreen [really] {yes}."),
    Passage("7", "", 'He said "]}, {" once.'),
    Passage(content_id("", "No title, no id."), "", "No title, no id."),
]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.json", "corpus.txt"])
@pytest.mark.parametrize("blank", ["", "\n \n"])
def test_json_lines(tmp_path: Path, name: str, blank: str) -> None:
    text = blank + json_lines(ROWS).replace("\n", f"\n{blank}")
    assert list(read_passages(written(tmp_path / name, text))) == EXPECTED


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_one_json_list(tmp_path: Path, indent: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    text = json.dumps(ROWS, indent=indent, ensure_ascii=False)
    assert list(read_passages(written(tmp_path / "corpus.json", text + "\n"))) == EXPECTED


@pytest.mark.parametrize("indent", [None, 1])
def test_hotpotqa_object(tmp_path: Path, indent: int | None) -> None:
    corpus = {'A "quoted": [title': ["One.", " Two."], "B": ["Three."]}
    found = list(read_passages(written(tmp_path / "corpus.json", json.dumps(corpus, indent=indent))))
    assert [(passage.title, passage.text) for passage in found] == [
        ('A "quoted": [title', "One. Two."),
        ("B", "Three."),
    ]
    assert found[1].id == content_id("B", "Three.")


def test_contents_with_a_quoted_title(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "0", "contents": '"Aaron"\nAaron is a "prophet".\nYes.'},
        {"id": "1", "contents": "plain"},
    ]
    found = list(read_passages(written(tmp_path / "wiki.jsonl", json_lines(rows))))
    assert found == [Passage("0", "Aaron", 'Aaron is a "prophet".\nYes.'), Passage("1", "", "plain")]


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines(ROWS).encode("utf-8-sig")))
    assert list(read_passages(path)) == EXPECTED


def test_empty_corpora(tmp_path: Path) -> None:
    assert list(read_passages(written(tmp_path / "a.jsonl", ""))) == []
    assert list(read_passages(written(tmp_path / "a.json", " [ ] "))) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.jsonl", '{"text": "a"}\n{"text": 3}\n', r'c\.jsonl, line 2: expected "text" to be a str, found 3\.'),
        ("c.jsonl", '{"text": "a"}\n\n{"title": "b"}\n', r"line 3: .* found only the keys \['title'\]\."),
        ("c.jsonl", '{"text": "a"}\nnot json\n', r"line 2: expected one JSON value, found 'not json'"),
        ("c.jsonl", '["text"]\n', r"line 1: expected a passage such as .* found \['text'\]\."),
        ("c.jsonl", '{"text": "a", "id": true}\n', r'line 1: expected "id" .* found True\.'),
        ("c.jsonl", '{"text": "a", "title": ["b"]}\n', r'line 1: expected "title" to be a str'),
        ("c.jsonl", '{"text": " "}\n', r"line 1: .*both empty"),
        ("c.jsonl", '{"sentences": ["x"]}\n', r'line 1: expected "title" to be a str'),
        ("c.jsonl", "[" * 100_000, r"line 1: expected one JSON value"),
        ("c.json", '[{"text": "a"},\n{"text": "b"\n', r"line 2: expected a JSON value"),
        ("c.json", '[{"text": "a"},\n{"text": "b"}\n', r"expected one of , \], found the end of the file\."),
        ("c.json", '[{"text": "a"}\n{"text": "b"}]', r"line 2: expected one of , \], found"),
        ("c.json", '[{"text": "a"}] 3', r"line 1: expected the end of the file"),
        ("c.json", '{"a": ["b"],\n"c": "d"}', r'line 2: expected "sentences" to be a list, found \'d\'\.'),
        ("c.json", '{"a": ["b", 1]}', r"line 1: expected a list of sentences"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(read_passages(written(tmp_path / name, text)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_other_bytes_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "\xff"}\n')
    (tmp_path / "c.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match="expected UTF-8"):
        list(read_passages(tmp_path / "c.jsonl"))
    with pytest.raises(DataError, match="gzip"):
        list(read_passages(tmp_path / "c.jsonl.gz"))
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl"):
        list(read_passages(tmp_path / "no.jsonl"))


@pytest.mark.parametrize("shape", ["lines", "list", "object"])
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, shape: str) -> None:
    text = "word " * 2_000
    rows = [f'{{"title": "t{i}", "text": "{text}"}}' for i in range(3_000)]
    members = [f'"t{i}": ["{text}"]' for i in range(3_000)]
    whole = {"lines": "\n".join(rows), "list": f"[{', '.join(rows)}]", "object": f"{{{', '.join(members)}}}"}
    path = written(tmp_path / ("c.jsonl" if shape == "lines" else "c.json"), whole[shape])
    tracemalloc.start()
    count = sum(1 for _ in read_passages(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3_000
    assert path.stat().st_size > 28 << 20
    assert peak < 8 << 20
