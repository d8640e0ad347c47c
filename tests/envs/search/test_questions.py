"""Question files become task rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from forethought.envs.search import DataError, content_id, fill_references, load_questions

PARAGRAPHS = [
    {"idx": 0, "title": "Heidi", "paragraph_text": "By Spyri.", "is_supporting": True},
    {"idx": 4, "title": "Spyri", "paragraph_text": "Born in Hirzel.", "is_supporting": True},
    {"idx": 5, "title": "Spyri", "paragraph_text": "A name.", "is_supporting": False},
]
MUSIQUE = {
    "id": "2hop__1_2",
    "paragraphs": PARAGRAPHS,
    "question": "Where was the author of Heidi born?",
    "question_decomposition": [
        {"id": 1, "question": "Who wrote Heidi?", "answer": "Johanna Spyri", "paragraph_support_idx": 0},
        {"id": 2, "question": "Where was #1 born?", "answer": "Hirzel", "paragraph_support_idx": 4},
    ],
    "answer": "Hirzel",
    "answer_aliases": ["Hirzel ZH"],
    "answerable": True,
}
HOTPOTQA = {
    "_id": "5a",
    "question": "If Gallu is a demon Lilu is what?",
    "answer": "a spirit",
    "type": "comparison",
    "level": "easy",
    "supporting_facts": [["Lilu", 1], ["Gallu", 0], ["Lilu", 0]],
    "context": [["Gallu", ["A demon.", " Old."]], ["Lilu", ["A spirit.", " Bad."]], ["Other", ["No."]]],
}


def loaded(tmp_path: Path, *rows: Any) -> list[dict[str, Any]]:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load_questions(path)


def test_musique(tmp_path: Path) -> None:
    heidi, spyri = content_id("Heidi", "By Spyri."), content_id("Spyri", "Born in Hirzel.")
    hops = [
        {"question": "Who wrote Heidi?", "answer": "Johanna Spyri", "support": "Heidi", "support_id": heidi},
        {"question": "Where was #1 born?", "answer": "Hirzel", "support": "Spyri", "support_id": spyri},
    ]
    row = {
        "id": "2hop__1_2",
        "prompt": "Where was the author of Heidi born?",
        "answer": "Hirzel",
        "aliases": ["Hirzel ZH"],
        "difficulty": 2.0,
        "metadata": {"hops": 2, "decomposition": hops, "supporting": [heidi, spyri]},
    }
    assert loaded(tmp_path, MUSIQUE) == [row]
    (tmp_path / "questions.json").write_text(json.dumps([MUSIQUE], indent=1))
    assert load_questions(tmp_path / "questions.json") == [row]


def test_hotpotqa(tmp_path: Path) -> None:
    [row] = loaded(tmp_path, HOTPOTQA)
    supporting = [content_id("Lilu", "A spirit. Bad."), content_id("Gallu", "A demon. Old.")]
    assert row["metadata"] == {"hops": 2, "decomposition": [], "supporting": supporting, "level": "easy"}
    assert (row["id"], row["answer"], row["aliases"], row["difficulty"]) == ("5a", "a spirit", [], 2.0)


def test_generic(tmp_path: Path) -> None:
    rows = loaded(
        tmp_path,
        {"question": "Q?", "answer": ["yes", "yeah"], "aliases": ["yep"], "difficulty": 3, "metadata": {"x": 1}},
        {"id": 5, "prompt": "R?", "answer": "no"},
    )
    assert [row["id"] for row in rows] == [content_id("", "Q?"), "5"]
    assert rows[0] | {"id": ""} == {
        "id": "",
        "prompt": "Q?",
        "answer": "yes",
        "aliases": ["yeah", "yep"],
        "difficulty": 3.0,
        "metadata": {"x": 1},
    }
    assert rows[1]["difficulty"] is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (3, r'expected \{"question": ..., "answer": ...\}, found 3\.'),
        ({"question": "Q?"}, r'expected "answer" to be a str'),
        ({"answer": "A"}, r'expected "prompt" to be a str'),
        ({"question": " ", "answer": "A"}, "not blank"),
        ({"question": "Q?", "answer": []}, "a text or a list of texts"),
        ({"question": "Q?", "answer": "A", "aliases": "B"}, r'"aliases" to be a list'),
        ({"question": "Q?", "answer": "A", "difficulty": "hard"}, r'"difficulty" to be a number'),
        (MUSIQUE | {"answerable": False}, "unanswerable"),
        (MUSIQUE | {"paragraphs": PARAGRAPHS[:1]}, r"a paragraph with idx 4, found only \[0\]"),
        (MUSIQUE | {"paragraphs": ["x"]}, r'expected an object with the key "title"'),
        (HOTPOTQA | {"supporting_facts": [["Nowhere", 0]]}, "title in the context"),
        (HOTPOTQA | {"context": [["Gallu", "A demon."]]}, "context pairs"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"questions.jsonl, line 2: .*{message}"):
        loaded(tmp_path, {"question": "fine", "answer": "fine"}, row)


def test_ids_are_unique(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'line 3: .*"2hop__1_2" again \(first at .*line 1\)'):
        loaded(tmp_path, MUSIQUE, HOTPOTQA, MUSIQUE)


def test_references_are_filled_by_number() -> None:
    answers = [f"<{i}>" for i in range(1, 11)]
    assert fill_references("#1 >> #10, #11 #0 #x", answers) == "<1> >> <10>, #11 #0 #x"
    assert fill_references("who is #1?", [r"\1 #2"]) == r"who is \1 #2?"
