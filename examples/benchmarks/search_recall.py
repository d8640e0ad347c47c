"""Recall of the supporting passages: our index beside bm25s, on the same multi-hop questions.

    python examples/benchmarks/search_recall.py --data DIR

`DIR` holds musique_train.json, hotpotqa_train.json and their corpora (`*_corpus.json`), as HippoRAG publishes them.
recall@k is the share of a question's supporting passages that are among the first k, averaged over the questions. "hop
hit@5" (MuSiQue only) is the share of gold hops whose passage is in the first 5 for the hop's own sub-question, the
answers of earlier hops filled in: what an agent that plans well can reach. bm25s has its recommended English settings:
its stop words, and the Snowball stemmer if PyStemmer is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forethought.envs.search import Passage, PassageIndex, fill_references, load_questions, read_passages

Search = Callable[[str, int], list[str]]
"""(query, k) -> ids of the best k passages."""


def data_directory(given: str | None) -> Path:
    """The directory of the question files, or exit with a message that says how to name it."""
    beside_repository = Path(__file__).resolve().parents[3] / "shared" / "data"
    directory = Path(given or os.environ.get("FORETHOUGHT_DATA") or beside_repository)
    if not (directory / "musique_train.json").is_file():
        raise SystemExit(f"Expected musique_train.json in {directory}: name its folder by --data or FORETHOUGHT_DATA.")
    return directory


def our_search(corpus: Path, scratch: Path) -> Search:
    """Our index of `corpus`, built in `scratch`."""
    index = PassageIndex.from_corpus(corpus, scratch / corpus.stem)
    return lambda query, k: [hit.passage_id for hit in index.search_sync(query, k)]


def bm25s_search(passages: list[Passage]) -> Search:
    """bm25s over the same passages, title and text as one."""
    import bm25s

    stemmer: Any = None
    if importlib.util.find_spec("Stemmer"):
        stemmer = importlib.import_module("Stemmer").Stemmer("english")

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens([f"{passage.title} {passage.text}" for passage in passages]), show_progress=False)

    def search(query: str, k: int) -> list[str]:
        found, _ = index.retrieve(tokens([query]), k=k, show_progress=False)
        return [passages[int(place)].id for place in found[0]]

    return search


def recall(search: Search, questions: list[dict[str, Any]], k: int) -> float:
    """Mean share, in per cent, of a question's supporting passages among the first `k`."""
    shares = []
    for question in questions:
        supporting = set(question["metadata"]["supporting"])
        shares.append(len(supporting & set(search(question["prompt"], k))) / len(supporting))
    return 100 * sum(shares) / len(shares)


def hop_hits(search: Search, questions: list[dict[str, Any]], k: int) -> list[bool]:
    """For each gold hop: is its passage among the first `k` for its sub-question with earlier answers filled in?"""
    hits = []
    for question in questions:
        hops = question["metadata"]["decomposition"]
        answers = [hop["answer"] for hop in hops]
        hits += [hop["support_id"] in search(fill_references(hop["question"], answers), k) for hop in hops]
    return hits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="directory of the question files (default: FORETHOUGHT_DATA or ../shared/data)")
    directory = data_directory(parser.parse_args().data)
    stemmer = "PyStemmer" if importlib.util.find_spec("Stemmer") else "no stemmer: pip install PyStemmer"
    print(f"bm25s with English stop words, {stemmer}")
    print(f"{'questions':>10} {'who':>6} {'recall@5':>9} {'recall@20':>10} {'hop hit@5':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("musique", "hotpotqa"):
            corpus = directory / f"{name}_train_corpus.json"
            questions = load_questions(directory / f"{name}_train.json")
            searches = {"ours": our_search(corpus, Path(scratch)), "bm25s": bm25s_search(list(read_passages(corpus)))}
            for who, search in searches.items():
                hits = hop_hits(search, questions, 5)
                hop_text = f"{100 * sum(hits) / len(hits):.1f}" if hits else "-"
                recalls = f"{recall(search, questions, 5):>9.1f} {recall(search, questions, 20):>10.1f}"
                print(f"{name:>10} {who:>6} {recalls} {hop_text:>10}")


if __name__ == "__main__":
    main()
