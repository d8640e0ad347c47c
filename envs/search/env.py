"""The Search environment."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..answers import exact_match, f1_score
from ..budgets import Budget
from ..tasks import ListedTasks, Task, TaskSet, as_task_set
from ..tool_env import ToolEnv
from ..tools import ToolError, tool
from .http_retriever import HttpRetriever
from .index import PassageIndex
from .index_files import IndexNotUsable
from .questions import load_questions
from .retriever import Retriever


class SearchEnv(ToolEnv):
    """Answer questions by searching a corpus: tools `search(query, k)` and `open(document)`.

    Scores: `correct` (normalised exact match with aliases, the reward), `f1`, and `support`, the share of the
    supporting passages that a search or an `open` brought up, where the task names them.

    Args:
        corpus: A corpus (JSON Lines with `title` and `text`, or a MuSiQue or HotpotQA corpus): it is indexed once and
            the index kept for later runs. Or the folder of an index that `PassageIndex.build` made.
        retriever_url: An HTTP retriever in place of a corpus.
        questions: A MuSiQue or HotpotQA file, or JSON Lines of questions.
        tasks: A task set in place of `questions`.
        budget: 12 turns and 24 tool calls by default.
        options: Everything else that `ToolEnv` takes.

    Raises:
        ValueError: not exactly one of `corpus` and `retriever_url`, or of `questions` and `tasks`, is given, or a file
            is not there or not what it should be.
    """

    def __init__(
        self,
        *,
        corpus: str | Path | None = None,
        retriever_url: str | None = None,
        questions: str | Path | None = None,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if (corpus is None) == (retriever_url is None):
            raise ValueError("Search needs either corpus=<file or index folder> or retriever_url=<http address>")
        if (questions is None) == (tasks is None):
            raise ValueError("Search needs either questions=<file of questions> or tasks=<task set>")
        self._retriever: Retriever
        if corpus is not None:
            self._retriever = _open_corpus(Path(corpus), _stamp("corpus", corpus))
        else:
            self._retriever = HttpRetriever(str(retriever_url))
        self._seen: set[str] = set()
        chosen = (
            _read_questions(Path(questions), _stamp("questions", questions))
            if questions is not None
            else as_task_set(tasks or ())
        )
        super().__init__(chosen, budget=budget or Budget(turns=12, tool_calls=24), **options)

    def begin(self) -> None:
        """Nothing has been found yet."""
        self._seen = set()

    @tool
    async def search(self, query: str, k: int = 5) -> str:
        """Search the corpus and read the best passages, shortened.

        Args:
            query: Words to look for.
            k: How many passages, 1 to 20.
        """
        if not 1 <= k <= 20:
            raise ToolError(f"k must be 1 to 20, found {k}")
        hits = await self._retriever.search(query, k)
        self._seen |= {name for hit in hits for name in (hit.title, hit.passage_id)}
        if not hits:
            return "No passage matches."
        return "\n".join(f"[{hit.passage_id}] {hit.title}: {hit.text}" for hit in hits)

    @tool
    async def open(self, document: str) -> str:
        """Read a whole passage.

        Args:
            document: The id in square brackets of a search result, or a title.
        """
        name = document.strip()
        passage = await self._retriever.open(name)
        if passage is None and name.startswith("["):
            passage = await self._retriever.open(name.removeprefix("[").removesuffix("]"))
        if passage is None:
            raise ToolError(
                f"there is no document {document[:80]!r}; take an id in square brackets from a search result"
            )
        self._seen |= {passage.title, passage.id}
        return f"{passage.title}\n{passage.text}"

    def score(self, answer: str | None) -> dict[str, float]:
        """Exact match and F1 against the answer and its aliases; the share of supporting passages that came up."""
        task = self.task
        given = answer or ""
        scores = {
            "correct": exact_match(given, task.answer or "", task.aliases) if answer is not None else 0.0,
            "f1": f1_score(given, task.answer or "", task.aliases) if answer is not None else 0.0,
        }
        supporting = task.metadata.get("supporting")
        if supporting:
            scores["support"] = sum(name in self._seen for name in supporting) / len(supporting)
        return scores


# A rollout makes one environment per episode in flight; they share what is read from the same file.
@functools.lru_cache(maxsize=8)
def _open_corpus(path: Path, stamp: tuple[int, int]) -> PassageIndex:
    try:
        return PassageIndex(path) if path.is_dir() else PassageIndex.from_corpus(path)
    except IndexNotUsable as error:
        raise ValueError(str(error)) from error


@functools.lru_cache(maxsize=8)
def _read_questions(path: Path, stamp: tuple[int, int]) -> TaskSet:
    return ListedTasks(Task.from_row(row, f"{path}, question {i}") for i, row in enumerate(load_questions(path), 1))


def _stamp(what: str, path: str | Path) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise ValueError(f"{what} {str(path)!r} cannot be read: {error.strerror}") from None
    return status.st_mtime_ns, status.st_size
