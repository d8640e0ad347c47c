"""The files of a passage index: how they are written, checked and put in place.

An index is a directory with tantivy's files and `manifest.json`, which names every file with its size. It is built in
a hidden directory beside its place and renamed when whole, under a file lock that dies with its process; so a killed
build leaves rubbish that the next build removes, and never something that opens.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .passages import DataError, Passage, clean

if TYPE_CHECKING:
    from tantivy import DocAddress, Index, Query, Searcher, TextAnalyzer

_FORMAT = 1
_MANIFEST = "manifest.json"
_HEAP_BYTES = 256 << 20
_TITLE_KEY_CHARS = 512


class IndexNotUsable(RuntimeError):
    """A directory does not hold a whole passage index of this version; the message says what to do."""


@dataclass(frozen=True)
class Manifest:
    """What an index was built from and consists of."""

    format: int
    passages: int
    content_sha256: str
    """Hash of every passage's id, title and text, in order."""
    corpus_sha256: str | None
    """Hash of the bytes of the corpus file, if it was built from one."""
    files: dict[str, int]
    """Size in bytes of each file."""


def import_tantivy() -> Any:
    """The module tantivy, or an error that says how to install it."""
    try:
        import tantivy
    except ModuleNotFoundError:
        message = "A passage index needs tantivy, which is not installed: pip install forethought[search]"
        raise ModuleNotFoundError(message, name="tantivy") from None
    return tantivy


def contents_analyzer() -> TextAnalyzer:
    """Text -> stemmed English words without stop words."""
    filters = import_tantivy().Filter
    return _analyzer(filters.stopword("english"), filters.stemmer("english"))


def title_analyzer() -> TextAnalyzer:
    """Text -> whole words."""
    return _analyzer()


def title_key(title: str) -> str:
    """What two titles have in common when they differ in case, white space or Unicode spelling only."""
    return " ".join(unicodedata.normalize("NFKC", title).casefold().split())[:_TITLE_KEY_CHARS]


def stored_passage(searcher: Searcher, address: DocAddress) -> Passage:
    """The passage at one place of an index."""
    document = searcher.doc(address)
    title, text = document.get_all("contents")
    return Passage(document["id"][0], title, text)


def open_tantivy(directory: Path) -> Index:
    """The index of a directory, which may be read-only."""
    tantivy = import_tantivy()
    # tantivy creates a lock file beside the index while it opens it: let it do so beside links to the files.
    with tempfile.TemporaryDirectory(prefix="forethought-index-") as links:
        for file in directory.iterdir():
            Path(links, file.name).symlink_to(file)
        try:
            index: Index = tantivy.Index.open(links)
            index.config_reader("manual")
        except (ValueError, OSError) as error:
            raise IndexNotUsable(
                f"The passage index in {directory} cannot be opened ({error}): build it again."
            ) from error
        return index


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an index whose files are all there with the right sizes, else `IndexNotUsable`."""
    try:
        manifest = Manifest(**json.loads((directory / _MANIFEST).read_bytes()))
    except FileNotFoundError:
        advice = "make one with PassageIndex.build or PassageIndex.from_corpus"
        raise IndexNotUsable(f"There is no passage index in {directory}: {advice}.") from None
    except (ValueError, TypeError) as error:
        raise IndexNotUsable(f"{directory / _MANIFEST} is no manifest of format {_FORMAT} ({error}).") from None
    if manifest.format != _FORMAT:
        found = f"has format {manifest.format} where {_FORMAT} is expected"
        raise IndexNotUsable(f"The passage index in {directory} {found}: build it again.")
    sizes = _sizes(directory)
    for name, size in manifest.files.items():
        if sizes.get(name) != size:
            found = f"{sizes[name]} bytes" if name in sizes else "nothing"
            raise IndexNotUsable(
                f"The passage index in {directory} is damaged: expected {name} of {size} bytes, found {found}; "
                "delete the directory and build it again."
            )
    return manifest


def is_built_from(directory: Path, corpus_sha256: str) -> bool:
    """Whether `directory` holds a whole index of the corpus with this hash."""
    try:
        return read_manifest(directory).corpus_sha256 == corpus_sha256
    except IndexNotUsable:
        return False


def cache_directory(corpus: Path) -> Path:
    """Where the index of a corpus file goes by default: named after the file and its full path."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path_hash = sha256(os.fsencode(corpus.resolve())).hexdigest()[:12]
    return root / "forethought" / "search" / f"{corpus.name.split('.')[0]}-{path_hash}"


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes; read again only after the file changed."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"Expected a corpus file at {path}, but there is no such file.") from None
    return _file_sha256(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


@contextmanager
def sole_builder(directory: Path) -> Iterator[Path]:
    """Be the only process that builds `directory`; gives an empty directory beside it, removed at the end."""
    import fcntl

    if directory.exists() and any(directory.iterdir()) and not (directory / _MANIFEST).exists():
        raise IndexNotUsable(f"Expected {directory} to be an index or empty, found other files: name another place.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}.building-"
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_by_a_killed_build in directory.parent.glob(f"{prefix}*"):
            _remove(left_by_a_killed_build)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
        try:
            whole = temporary / "whole"
            whole.mkdir()
            yield whole
        finally:
            _remove(temporary)


def _remove(tree: Path) -> None:
    """Remove a folder, again if a file appears in it meanwhile (a writer's last one, on a busy machine)."""
    for pause in (0.05, 0.2, 1.0):
        try:
            shutil.rmtree(tree)
            return
        except OSError:
            time.sleep(pause)
    shutil.rmtree(tree)


def install(whole: Path, directory: Path) -> None:
    """Put a written index in its place; one that is being searched stays readable where it is open."""
    if directory.exists():
        directory.rename(whole.parent / "replaced")
    whole.rename(directory)


def write(directory: Path, passages: Iterable[Passage], corpus_sha256: str | None) -> None:
    """Write the index of `passages` and its manifest into the empty `directory`."""
    tantivy = import_tantivy()
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("contents", stored=True, tokenizer_name="contents", index_option="freq")
    builder.add_text_field("title", tokenizer_name="title", index_option="freq")
    builder.add_text_field("title_key", tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field("ordinal", indexed=True, fast=True)
    index = tantivy.Index(builder.build(), str(directory), reuse=False)
    index.register_tokenizer("contents", contents_analyzer())
    index.register_tokenizer("title", title_analyzer())
    writer = index.writer(_HEAP_BYTES, num_threads=1)
    content, id_hashes = sha256(), array("Q")
    for ordinal, passage in enumerate(passages):
        identity, title, text = map(clean, passage)
        digest = blake2b(json.dumps([identity, title, text]).encode()).digest()
        content.update(digest)
        id_hashes.append(int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()))
        document = tantivy.Document()
        document.add_text("id", identity)
        document.add_text("contents", title)
        document.add_text("contents", text)
        document.add_text("title", title)
        document.add_text("title_key", title_key(title))
        document.add_unsigned("ordinal", ordinal)
        writer.add_document(document)
    writer.commit()
    index.reload()
    for ordinal in _repeated(index, id_hashes):
        # Not by term: tantivy 0.27 takes the number for a signed one and deletes nothing.
        writer.delete_documents_by_query(_by_ordinal(index, ordinal))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    for lock_file in directory.glob(".tantivy-*.lock"):
        lock_file.unlink()
    kept = index.searcher().num_docs
    manifest = Manifest(_FORMAT, kept, content.hexdigest(), corpus_sha256, _sizes(directory))
    (directory / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    for name in manifest.files:
        # tantivy keeps some of its files from other users, whatever the umask says.
        shutil.copymode(directory / _MANIFEST, directory / name)


def _analyzer(*last: Any) -> TextAnalyzer:
    tantivy = import_tantivy()
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    filters = tantivy.Filter
    for step in (filters.remove_long(255), filters.lowercase(), filters.ascii_fold(), *last):
        builder = builder.filter(step)
    analyzer: TextAnalyzer = builder.build()
    return analyzer


def _repeated(index: Index, id_hashes: array[int]) -> list[int]:
    """Ordinals of passages that repeat an earlier one exactly; two that share only their id are a `DataError`."""
    import numpy as np

    hashes = np.frombuffer(id_hashes, dtype=np.uint64) if id_hashes else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    same_as_before = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    searcher = index.searcher()

    def passage(ordinal: int) -> Passage:
        return stored_passage(searcher, searcher.search(_by_ordinal(index, ordinal), 1, count=False).hits[0][1])

    repeated = []
    for place in same_as_before:
        earlier, later = int(order[place]), int(order[place + 1])
        if passage(earlier) == passage(later):
            repeated.append(later)
        elif passage(earlier).id == passage(later).id:
            numbers = f"{earlier + 1:,} and {later + 1:,}"
            raise DataError(f'Expected ids to be unique: passages {numbers} differ but are both "{passage(later).id}".')
    return repeated


def _by_ordinal(index: Index, ordinal: int) -> Query:
    query: Query = import_tantivy().Query.term_query(index.schema, "ordinal", ordinal, "basic")
    return query


def _sizes(directory: Path) -> dict[str, int]:
    if not directory.is_dir():
        return {}
    return {file.name: file.stat().st_size for file in sorted(directory.iterdir()) if file.name != _MANIFEST}


@lru_cache(maxsize=64)
def _file_sha256(path: Path, inode: int, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
