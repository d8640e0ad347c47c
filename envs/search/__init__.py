"""Search over a corpus of passages: reading corpora and multi-hop questions, a BM25 index, an HTTP adapter.

tantivy is imported when the first `PassageIndex` is built or opened, not before.
"""

from .http_retriever import HttpRetriever, RetrieverError
from .index import PassageIndex
from .index_files import IndexNotUsable
from .passages import DataError, Passage, content_id, read_passages
from .questions import fill_references, load_questions
from .retriever import Hit, Retriever

__all__ = [
    "DataError",
    "Hit",
    "HttpRetriever",
    "IndexNotUsable",
    "Passage",
    "PassageIndex",
    "Retriever",
    "RetrieverError",
    "content_id",
    "fill_references",
    "load_questions",
    "read_passages",
]
