"""The index finds, stays in order, takes any query, and is never half there."""

import asyncio
import copy
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forethought.envs.search import DataError, IndexNotUsable, Passage, PassageIndex, Retriever
from forethought.sandboxes.faults import InfrastructureFault

pytest.importorskip("tantivy", reason="needs tantivy: pip install forethought[search]")

PASSAGES = [
    Passage("p1", "Heidi", "Heidi is a novel written by Johanna Spyri, published in two parts."),
    Passage("p2", "Johanna Spyri", "Johanna Spyri was born in Hirzel, a village in the canton of Zürich."),
    Passage("p3", "The Who", "An English rock band formed in London."),
    Passage("p4", "Rock", "Geologists study how bands of rocks formed in the London basin."),
    Passage("p5", "", "A passage without a title."),
    Passage("p6", "Heidi", "Heidi is also a film of 1937 with Shirley Temple."),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PassageIndex:
    return PassageIndex.build(tmp_path_factory.mktemp("index") / "small", PASSAGES)


def ids(index: PassageIndex, query: str, k: int = 10) -> list[str]:
    return [hit.passage_id for hit in index.search_sync(query, k)]


def test_finds_by_stems_accents_and_titles(index: PassageIndex) -> None:
    assert ids(index, "where are the VILLAGES of zurich?")[0] == "p2"
    assert ids(index, "a novel of Heidi") == ["p1", "p6"]
    assert ids(index, "The Who")[0] == "p3"
    assert ids(index, "rocks")[0] == "p4"
    assert len(index) == 6


def test_hits_carry_title_text_and_falling_scores(index: PassageIndex) -> None:
    first, second = index.search_sync("novel Heidi", 2)
    assert first[:3] == PASSAGES[0]
    assert first.score > second.score > 0


async def test_the_retriever_protocol(index: PassageIndex) -> None:
    retriever: Retriever = index
    hits = await asyncio.gather(*(retriever.search("Spyri", 3) for _ in range(20)))
    assert all(found == hits[0] for found in hits)
    assert await retriever.open("Johanna Spyri") == PASSAGES[1]


def test_opens_by_id_then_by_title(index: PassageIndex, tmp_path: Path) -> None:
    assert index.open_sync("p2") == PASSAGES[1]
    assert index.open_sync("heidi ") == PASSAGES[0]
    for nothing in ("", " ", "no such", "P2", "x" * 10**6, "\ud800"):
        assert index.open_sync(nothing) is None
    years = [Passage("1984", "Novel", "By Orwell."), Passage("x", "1984", "A year."), Passage("y", "Z" * 5_000, "Z.")]
    other = PassageIndex.build(tmp_path / "years", years)
    assert other.open_sync("1984") == years[0]
    assert other.open_sync("z" * 5_000) == years[2]


HOSTILE = [
    "", " ", '"', "'", "AND", "OR NOT", "title:", "title:(", "a:b:c", "[1 TO", "{* TO *}", "*", "?", "~", "^2",
    "+-&&||!(){}[]",
    "\\", "\0", "\ud800\udfff", "日本語", "👩‍👩‍👧", "e\u0301", "\u202e", "%s {0}", "SELECT * FROM", "<plan>",
    "-" * 9_999, "heidi " * 170_000, "x" * 1_000_000, " ".join(map(str, range(150_000))),
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_a_query(index: PassageIndex, query: str) -> None:
    start = time.perf_counter()
    assert isinstance(index.search_sync(query, 3), list)
    assert isinstance(index.search_sync(f"heidi {query}", 3)[0].text, str)
    index.open_sync(query)
    assert time.perf_counter() - start < 1


def test_random_text_is_a_query(index: PassageIndex) -> None:
    rng = random.Random(0)
    for _ in range(300):
        index.search_sync("".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x110000)])) for _ in range(50)), 5)


def test_k_below_one_is_refused(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="1 or more, found 0"):
        index.search_sync("heidi", 0)


def many(order: int) -> Iterator[Passage]:
    rng = random.Random(1)
    rows = [Passage(f"d{i:04}", f"t{i % 7}", " ".join(rng.choices("abcdefghij", k=4))) for i in range(3_000)]
    random.Random(order).shuffle(rows)
    return iter(rows)


def test_ties_are_ordered_by_id_whatever_the_order_of_the_corpus(tmp_path: Path) -> None:
    first, second = (PassageIndex.build(tmp_path / str(order), many(order)) for order in (1, 2))
    for query in ("b c", "d", "e f g h", "t3 b"):
        found = first.search_sync(query, 40)
        assert found == second.search_sync(query, 40)
        assert found == sorted(found, key=lambda hit: (-hit.score, hit.passage_id))
        assert found[:7] == first.search_sync(query, 7)


def test_long_passages_are_cut_around_the_words_asked_for(tmp_path: Path) -> None:
    text = "Filler words stand here. " * 100 + "The zebra met an okapi. " + "More filler follows. " * 100
    index = PassageIndex.build(tmp_path / "long", [Passage("a", "T", text), Passage("b", "U", "x" * 5_000 + " zebra")])
    hits = {hit.passage_id: hit.text for hit in index.search_sync("zebra okapis", 5)}
    assert "zebra met an okapi" in hits["a"]
    assert hits["a"].startswith("...")
    assert "zebra" in hits["b"]
    assert all(len(cut) <= 310 for cut in hits.values())
    assert index.search_sync("filler", 1)[0].text.startswith("Filler words")


def test_a_repeated_passage_is_kept_once(tmp_path: Path) -> None:
    index = PassageIndex.build(tmp_path / "twice", [*PASSAGES, *PASSAGES[:2], PASSAGES[0]])
    assert len(index) == 6
    assert ids(index, "novel Heidi") == ["p1", "p6"]
    with pytest.raises(DataError, match='passages 1 and 7 differ but are both "p1"'):
        PassageIndex.build(tmp_path / "clash", [*PASSAGES, Passage("p1", "Other", "text")])
    assert not (tmp_path / "clash").exists()


def test_an_empty_corpus_and_broken_unicode(tmp_path: Path) -> None:
    assert PassageIndex.build(tmp_path / "empty", []).search_sync("a", 3) == []
    index = PassageIndex.build(tmp_path / "odd", [Passage("\ud800", "\udfff", "zebra \0 \ud800")])
    assert index.search_sync("zebra", 1)[0][:3] == ("?", "?", "zebra \0 ?")


def test_copies_and_pickles_reopen_the_same_directory(index: PassageIndex) -> None:
    for other in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        assert other.search_sync("Heidi", 3) == index.search_sync("Heidi", 3)


def corpus_file(path: Path, passages: list[Passage]) -> Path:
    path.write_text("".join(f"{json.dumps(passage._asdict())}\n" for passage in passages))
    return path


def test_an_index_is_used_again_while_the_corpus_is_the_same(tmp_path: Path) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", PASSAGES)
    first = PassageIndex.from_corpus(corpus, tmp_path / "index")
    stamp = (tmp_path / "index" / "manifest.json").stat()
    os.utime(corpus)
    assert PassageIndex.from_corpus(corpus, tmp_path / "index").manifest == first.manifest
    assert (tmp_path / "index" / "manifest.json").stat().st_ino == stamp.st_ino
    corpus_file(corpus, PASSAGES[:2])
    changed = PassageIndex.from_corpus(corpus, tmp_path / "index")
    assert len(changed) == 2
    assert changed.manifest.content_sha256 != first.manifest.content_sha256
    assert ids(first, "geologists", 1) == ["p4"], "the replaced index stays readable where it is open"


def test_the_cache_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = PassageIndex.from_corpus(corpus_file(tmp_path / "wiki.jsonl", PASSAGES))
    assert index.directory.parent == tmp_path / "cache" / "forethought" / "search"
    assert index.directory.name.startswith("wiki-")
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl"):
        PassageIndex.from_corpus(tmp_path / "no.jsonl")


def test_many_that_ask_at_once_build_it_once(tmp_path: Path) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", PASSAGES)
    opened: list[PassageIndex] = []

    def ask() -> None:
        opened.append(PassageIndex.from_corpus(corpus, tmp_path / "index"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    assert len({tuple(index.manifest.files) for index in opened}) == 1


ENDLESS_BUILD = """
import itertools, sys
from forethought.envs.search import Passage, PassageIndex
def passages():
    for i in itertools.count():
        if i == 20_000:
            print("under way", flush=True)
        yield Passage(str(i), "title", f"word{i % 1000} text")
PassageIndex.build(sys.argv[1], passages())
"""


def test_a_killed_build_leaves_nothing_that_opens(tmp_path: Path) -> None:
    namespace = str(Path(__file__).resolve().parents[3] / ".namespace")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([namespace, os.environ.get("PYTHONPATH", "")])}

    def killed_build() -> None:
        command = [sys.executable, "-c", ENDLESS_BUILD, str(tmp_path / "index")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            process.send_signal(signal.SIGKILL)

    killed_build()
    with pytest.raises(IndexNotUsable, match="no passage index"):
        PassageIndex(tmp_path / "index")
    assert list(tmp_path.glob(".index.building-*"))
    built = PassageIndex.build(tmp_path / "index", PASSAGES)
    assert not list(tmp_path.glob(".index.building-*"))
    killed_build()
    assert PassageIndex(tmp_path / "index").manifest == built.manifest


def test_a_damaged_index_does_not_open(tmp_path: Path) -> None:
    directory = PassageIndex.build(tmp_path / "index", PASSAGES).directory
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    with pytest.raises(IndexNotUsable, match="has format 0 where 1 is expected: build it again"):
        PassageIndex(directory)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    largest = max(directory.iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size - 1)
    with pytest.raises(IndexNotUsable, match=f"expected {largest.name} of .* bytes, found .* bytes"):
        PassageIndex(directory)
    largest.unlink()
    with pytest.raises(IndexNotUsable, match="found nothing"):
        PassageIndex(directory)
    (directory / "manifest.json").write_text("{")
    with pytest.raises(IndexNotUsable, match="no manifest"):
        PassageIndex(directory)
    assert len(PassageIndex.build(directory, PASSAGES)) == 6


def test_a_build_never_replaces_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(IndexNotUsable, match="found other files"):
        PassageIndex.build(tmp_path, PASSAGES)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_read_only_index_opens_and_is_left_as_it_was(tmp_path: Path) -> None:
    directory = PassageIndex.build(tmp_path / "index", PASSAGES).directory
    before = sorted(directory.iterdir())
    assert len({file.stat().st_mode for file in before}) == 1, "readable for the same users as the manifest"
    directory.chmod(0o555)
    try:
        assert ids(PassageIndex(directory), "novel", 1) == ["p1"]
    finally:
        directory.chmod(0o755)
    assert sorted(directory.iterdir()) == before


def test_files_that_fail_under_a_search_are_an_infrastructure_fault(
    index: PassageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def doc_freq(self, field: str, word: str) -> int:
            return 1

        def search(self, *_: object, **__: object) -> None:
            raise OSError("input/output error")

    broken = copy.copy(index)
    monkeypatch.setattr(broken, "_searcher", Failing())
    with pytest.raises(InfrastructureFault, match="cannot be searched: input/output error"):
        broken.search_sync("heidi", 1)
    with pytest.raises(InfrastructureFault, match="cannot be read"):
        broken.open_sync("p1")


def test_without_tantivy_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install forethought\[search\]"):
        PassageIndex(tmp_path)


def test_importing_search_does_not_import_tantivy() -> None:
    namespace = str(Path(__file__).resolve().parents[3] / ".namespace")
    code = "import sys, forethought.envs.search; print('tantivy' in sys.modules, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": namespace}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "False False\n"
