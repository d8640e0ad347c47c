"""Documents: numbered paragraphs of texts and corpora."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.envs.delegate import Document
from forethought.envs.delegate.documents import LONGEST_PARAGRAPH, Corpus, open_corpus, split_text
from forethought.envs.search import DataError, Passage
from tests.envs.delegate.small_data import passages, write


def test_blank_lines_separate_paragraphs() -> None:
    assert split_text("One\nline.\n\n \t\nTwo.\r\n\r\nThree.\n") == ["One line.", "Two.", "Three."]
    assert split_text("One.\n\nStill one.", blank_lines=False) == ["One. Still one."]
    assert split_text(" \n\n ") == []


def test_a_long_paragraph_is_split_between_sentences() -> None:
    sentence = "x" * 899 + "."
    assert split_text(f"{sentence} {sentence} {sentence}") == [f"{sentence} {sentence}", sentence]


@given(st.text(alphabet="ab .!\n中", max_size=200), st.integers(1, 60))
def test_splitting_loses_no_character_and_keeps_to_the_limit(text: str, times: int) -> None:
    pieces = split_text(text * times)
    assert all(0 < len(piece) <= LONGEST_PARAGRAPH for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join((text * times).split())


def test_sections_say_where_they_are() -> None:
    document = Document([("A", ["one two", "three"]), ("empty", []), ("B", ["four"])])
    assert [(s.title, s.first, s.last, s.words) for s in document.sections] == [("A", 1, 2, 3), ("B", 3, 3, 1)]
    assert (len(document), document.words, document[2]) == (3, 4, "three")


def test_passages_are_found_by_id_and_title() -> None:
    corpus = Corpus([Passage("1", "Aldo", "A film."), Passage("2", "", "No title.")], "here")
    assert [corpus.find(name) for name in ("1", "Aldo", "Brim")] == ["1", "1", None]
    assert corpus.paragraphs("1") == ["Aldo: A film."] and corpus.paragraphs("2") == ["No title."]
    assert (corpus.ids, corpus.lengths, corpus.words) == (["1", "2"], {"1": 3, "2": 2}, 5)


def test_a_corpus_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='here: expected ids to be unique, found "1" for two'):
        Corpus([Passage("1", "", "a"), Passage("1", "", "b")], "here")
    with pytest.raises(DataError, match="here: expected passages, found none"):
        Corpus([], "here")
    with pytest.raises(ValueError, match=r"corpus '.*nowhere.jsonl' cannot be read: No such file"):
        open_corpus(tmp_path / "nowhere.jsonl")


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.jsonl", passages())
    first = open_corpus(path)
    assert open_corpus(path) is first
    write(tmp_path / "corpus.jsonl", passages()[:4])
    assert len(open_corpus(path).ids) == 4
