"""A BM25 index of passages on disk: memory-mapped, persistent, for millions of passages.

Built on tantivy (`pip install forethought[search]`), which is imported when an index is built or opened. Opening is
instant and takes next to no memory of its own, so that every environment of a process, and every process of a machine,
can open the same directory.

What was measured (examples/benchmarks/search_recall.py) decided how text becomes words: the title and text together
are lower-cased, freed of accents and of 33 stop words, and stemmed for English; the title counts once more by its whole
words, stop words included, so that "The Who" can be found. Scripts without spaces between words (Chinese, Thai) are
indexed by runs of letters, which BM25 serves badly.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...sandboxes.faults import InfrastructureFault
from . import index_files
from .passages import Passage, clean, read_passages
from .retriever import Hit

if TYPE_CHECKING:
    from tantivy import DocAddress, Query, Searcher

_TITLE_WEIGHT = 0.3
_QUERY_CHARS = 10_000
_QUERY_TERMS = 64
_MOST_TIES = 1_000
_SNIPPET_SOURCE_CHARS = 20_000


class PassageIndex:
    """A `Retriever` over an index directory.

    Results are ordered by score (rounded to 4 digits), then by passage id: the same for every copy of the index,
    as long as no more than 1,000 passages tie for the last place. Of a query the first 10,000 characters and of these
    the 64 rarest words count.
    """

    def __init__(self, directory: str | Path, *, snippet_chars: int = 300) -> None:
        """Open the index in `directory`; a hit's `text` has at most about `snippet_chars` characters.

        Raises:
            index_files.IndexNotUsable: there is no whole index of this format in `directory`.
            ModuleNotFoundError: tantivy is not installed.
        """
        tantivy = index_files.import_tantivy()
        self.directory = Path(directory).resolve()
        self.snippet_chars = snippet_chars
        self.manifest = index_files.read_manifest(self.directory)
        index = index_files.open_tantivy(self.directory)
        self._analyzers = {"contents": index_files.contents_analyzer(), "title": index_files.title_analyzer()}
        self._schema = index.schema
        self._searcher: Searcher = index.searcher()
        self._query_type: type[Query] = tantivy.Query
        self._should, self._ascending = tantivy.Occur.Should, tantivy.Order.Asc

    @classmethod
    def build(cls, directory: str | Path, passages: Iterable[Passage]) -> PassageIndex:
        """Index `passages` (read once, never all in memory) into `directory`, replacing the index that was there.

        A killed build leaves what was there before. A repeated identical passage is kept once.

        Raises:
            DataError: two different passages have the same id.
            IndexNotUsable: `directory` holds something else than an index.
        """
        with index_files.sole_builder(Path(directory)) as temporary:
            index_files.write(temporary, passages, corpus_sha256=None)
            index_files.install(temporary, Path(directory))
        return cls(directory)

    @classmethod
    def from_corpus(cls, corpus: str | Path, directory: str | Path | None = None) -> PassageIndex:
        """The index of a corpus file (`passages.read_passages`): opened if it is in `directory`, built if it is not.

        It is used again only while the bytes of the corpus are those it was built from. Processes that ask at the
        same time build it once. `directory` defaults to one for this corpus in `~/.cache/forethought/search` (or
        under `XDG_CACHE_HOME`).

        Raises:
            DataError: the corpus has a bad row. FileNotFoundError: it is not there.
        """
        corpus = Path(corpus)
        sha256 = index_files.file_sha256(corpus)
        target = Path(directory) if directory is not None else index_files.cache_directory(corpus)
        if not index_files.is_built_from(target, sha256):
            with index_files.sole_builder(target) as temporary:
                if not index_files.is_built_from(target, sha256):
                    index_files.write(temporary, read_passages(corpus), corpus_sha256=sha256)
                    index_files.install(temporary, target)
        return cls(target)

    def __len__(self) -> int:
        """The number of passages."""
        return self.manifest.passages

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.directory, self.snippet_chars)

    async def search(self, query: str, k: int) -> list[Hit]:
        """`search_sync` in a thread."""
        return await asyncio.to_thread(self.search_sync, query, k)

    async def open(self, id_or_title: str) -> Passage | None:
        """`open_sync` in a thread."""
        return await asyncio.to_thread(self.open_sync, id_or_title)

    def search_sync(self, query: str, k: int) -> list[Hit]:
        """The best `k` passages for any text; none if no word of it is in the corpus.

        Raises:
            ValueError: `k` is below 1.
            InfrastructureFault: the files of the index cannot be read any more.
        """
        if k < 1:
            raise ValueError(f"Expected k, the number of passages to find, to be 1 or more, found {k}.")
        terms = self._terms(clean(query[:_QUERY_CHARS]))
        if not terms:
            return []
        try:
            best = self._best(self._query(terms), k)
        except (ValueError, OSError) as error:
            raise InfrastructureFault(f"The passage index in {self.directory} cannot be searched: {error}.") from error
        wanted = {term for field, term, _ in terms if field == "contents"}
        return [Hit(p.id, p.title, self._snippet(p.text, wanted), score) for score, p in best]

    def open_sync(self, id_or_title: str) -> Passage | None:
        """The passage with this id, else the first of the corpus whose title equals it but for case and white space.

        Raises:
            InfrastructureFault: the files of the index cannot be read any more.
        """
        name = clean(id_or_title[:_QUERY_CHARS])
        try:
            for field, value in (("id", name), ("title_key", index_files.title_key(name))):
                query = self._query_type.term_query(self._schema, field, value, "basic")
                found = self._searcher.search(
                    query, 1, count=False, order_by_field="ordinal", order=self._ascending
                ).hits
                if value and found:
                    return index_files.stored_passage(self._searcher, found[0][1])
        except (ValueError, OSError) as error:
            raise InfrastructureFault(f"The passage index in {self.directory} cannot be read: {error}.") from error
        return None

    def _terms(self, text: str) -> list[tuple[str, str, float]]:
        """(field, indexed word, weight) of the words of a query, at most 64 a field, the rarest of the corpus."""
        terms = []
        for field, weight in (("contents", 1.0), ("title", _TITLE_WEIGHT)):
            counts = Counter(self._analyzers[field].analyze(text))
            frequencies = {word: self._searcher.doc_freq(field, word) for word in counts}
            rarest = sorted((f, word) for word, f in frequencies.items() if f)[:_QUERY_TERMS]
            terms += [(field, word, weight * counts[word]) for _, word in rarest]
        return terms

    def _query(self, terms: list[tuple[str, str, float]]) -> Query:
        make = self._query_type
        parts = (make.boost_query(make.term_query(self._schema, f, word, "freq"), boost) for f, word, boost in terms)
        return make.boolean_query([(self._should, part) for part in parts])

    def _best(self, query: Query, k: int) -> list[tuple[float, Passage]]:
        """The first `k` by rounded score, then id: as many hits are fetched as tie for the last place."""
        limit = k + 1
        while True:
            hits: list[tuple[float, DocAddress]] = self._searcher.search(query, limit, count=False).hits
            last = round(hits[min(k, len(hits)) - 1][0], 4) if hits else 0.0
            if len(hits) < limit or round(hits[-1][0], 4) < last or limit > k + _MOST_TIES:
                break
            limit = min(4 * limit, k + _MOST_TIES + 1)
        scored = [
            (round(score, 4), index_files.stored_passage(self._searcher, address))
            for score, address in hits
            if round(score, 4) >= last
        ]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1].id))[:k]

    def _snippet(self, text: str, wanted: set[str]) -> str:
        """The stretch of `snippet_chars` characters of `text` with the most different words of `wanted`."""
        if len(text) <= self.snippet_chars:
            return text
        source = text[:_SNIPPET_SOURCE_CHARS]
        tokens = [t for t in self._analyzers["contents"].pre_tokenize(source).tokens if t.text in wanted]
        inside: Counter[str] = Counter()
        best, start, first = 0, 0, 0
        for token in tokens:
            inside[token.text] += 1
            while token.char_offset_to - tokens[first].char_offset_from > self.snippet_chars:
                inside -= Counter([tokens[first].text])
                first += 1
            if len(inside) > best:
                best, start = len(inside), tokens[first].char_offset_from
        return _cut(text, start, self.snippet_chars)


def _cut(text: str, start: int, length: int) -> str:
    """About `length` characters of `text` around `start`, from a sentence's beginning if one is near, at words."""
    lead = max(0, start - length // 3)
    sentence = text.rfind(". ", lead, start)
    begin = sentence + 2 if sentence >= 0 else 0 if lead == 0 else text.find(" ", lead, start) + 1 or start
    end = begin + length
    if end < len(text):
        space = text.rfind(" ", begin + length // 2, end)
        end = space if space >= 0 else end
    return f"{'...' if begin else ''}{text[begin:end]}{'...' if end < len(text) else ''}"


def _reopen(directory: Path, snippet_chars: int) -> PassageIndex:
    return PassageIndex(directory, snippet_chars=snippet_chars)
