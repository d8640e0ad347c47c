"""The Delegate environment."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..answers import exact_match, f1_score
from ..budgets import Budget
from ..protocol import ParsedTurn
from ..sub_models import SELF
from ..tasks import Task, TaskError, TaskSet, as_task_set
from ..tool_env import StepOutcome, ToolEnv
from ..tools import CallResult, Tool, ToolError, tool
from .documents import LONGEST_PARAGRAPH, Document, file_stamp, open_corpus, split_text
from .tasks import VERSION, long_document_tasks

_NOTE = 200
"""Characters kept for what `read` says besides paragraphs."""
_MOST_FOUND = 20
_MOST_SECTIONS = 40
_RULES = """Answer the question about a long document. You do not see the document: its paragraphs are numbered from 1 \
to {count}, and the tool read shows a few of them at a time. All of it together may be more than your context holds."""
_ASK_RULES = """A sub-model that you ask begins with an empty context and knows only what you write, but it has the \
tool read too: do not copy the text, name the paragraphs, and say what you need to know. For example ask with the task \
"Read paragraphs 40 to 60 of the document and quote what they say about ..., or answer: nothing". Its answer is all \
that comes into your context. Sub-models that you ask in one turn work at the same time."""
_DEEPER = """ They may ask sub-models of their own, so one can be given more paragraphs than it can read itself."""
_OTHERS = """The sub-models {names} have no tools: copy what they need to know into the context."""


class DelegateEnv(ToolEnv):
    """Answer questions about documents that are longer than the context, with the help of sub-models.

    The shape is that of recursive language models (arXiv 2512.24601): the policy sees how long the document is and how
    it is divided, not its text. Tools: `read(start, count)`, `ask` (a sub-model has the same tools: it is told which
    paragraphs to read), and as an option `find(text)`.

    Scores: `correct` (normalised exact match with aliases, the reward), `f1`; `evidence`, the share of the supporting
    paragraphs that were read in any context of the tree, where the task names them; `coverage`, the share of all
    paragraphs that were; `read_share`, the share that was read in the policy's own contexts rather than in those of
    sub-models. A paragraph counts as read when `read` gave it, even if it was the one that no longer fitted the window.

    Metadata of a task: `documents`, a list of `{"title", "text"}` (blank lines separate paragraphs), or `passages`, ids
    of passages of the corpus; optionally `supporting`, the numbers of the paragraphs that the answer needs.

    Args:
        corpus: A corpus (any format that `read_passages` takes), of which documents are made.
        questions: A MuSiQue or HotpotQA file, or JSON Lines of questions, with passages of the corpus that support
            them; see `long_document_tasks`.
        words: Most words of a document that is made for a question; with several lengths, each is a task of its own.
        document_seed: Which passages of the corpus such a document has, and in what order.
        tasks: A task set in place of `questions`.
        page: Most paragraphs that one call of `read` gives.
        find: Whether there is the tool `find`. With it the words of a question often lead to its answer, and little
            needs to be delegated.
        sub_models: The policy itself by default.
        budget: 24 turns of each context, and sub-models that may ask sub-models (depth 2), by default.
        max_output: As for `ToolEnv`; room for one paragraph at least.
        options: Everything else that `ToolEnv` takes.

    Raises:
        ValueError: not exactly one of `questions` and `tasks` is given, `questions` without `corpus`, or a file is not
            there or not what it should be.
    """

    version = VERSION

    def __init__(
        self,
        *,
        corpus: str | Path | None = None,
        questions: str | Path | None = None,
        words: int | Sequence[int] = 16_000,
        document_seed: int = 0,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        page: int = 10,
        find: bool = False,
        sub_models: Sequence[str] = (SELF,),
        budget: Budget | Mapping[str, Any] | None = None,
        max_output: int = 8000,
        **options: Any,
    ) -> None:
        if (questions is None) == (tasks is None):
            raise ValueError("Delegate needs either questions=<file of questions> or tasks=<task set>")
        if page < 1:
            raise ValueError(f"page must be at least 1 paragraph, found {page}")
        if max_output < LONGEST_PARAGRAPH + _NOTE:
            raise ValueError(
                f"max_output must be at least {LONGEST_PARAGRAPH + _NOTE} characters, "
                f"so that one call shows a whole paragraph; found {max_output}"
            )
        self._corpus = None if corpus is None else open_corpus(corpus)
        self._page = page
        self._document = Document([])
        self._seen: set[int] = set()
        self._seen_alone: set[int] = set()
        if questions is not None:
            if corpus is None:
                raise ValueError("questions=<file> needs corpus=<file of passages>, of which the documents are made")
            length = words if isinstance(words, int) else tuple(words)
            stamps = file_stamp("corpus", corpus), file_stamp("questions", questions)
            tasks = _read_tasks(str(corpus), str(questions), length, document_seed, *stamps)
        super().__init__(
            as_task_set(tasks or ()),
            sub_models=sub_models,
            budget=budget or Budget(turns=24, depth=2),
            max_output=max_output,
            **options,
        )
        if find:
            finder = Tool.from_function(self.find)
            finder.timeout = None  # it cannot hang
            self.toolbox.add([finder])

    @property
    def document(self) -> Document:
        """The document of the current task."""
        return self._document

    def begin(self) -> None:
        """Put the document together; nothing of it has been read.

        Raises:
            TaskError: the task has no document, or one of passages that the corpus does not have.
        """
        self._document = self._make_document()
        self._seen, self._seen_alone = set(), set()

    @tool(timeout=None)
    def read(self, start: int, count: int = 1) -> str:
        """Read paragraphs of the document.

        Args:
            start: Number of the first paragraph.
            count: How many; one call gives only a few.
        """
        first, last = self._span(start, count)
        self._seen.update(range(first, last + 1))
        lines = [_line(number, self._document[number]) for number in range(first, last + 1)]
        end = min(start + count - 1, len(self._document))
        if last < end:
            lines.append(f"(Paragraphs {last + 1} to {end} do not fit in one call: go on with start {last + 1}.)")
        elif last == len(self._document):
            lines.append("(This is the end of the document.)")
        return "\n".join(lines)

    def find(self, text: str) -> str:
        """Find the paragraphs in which words stand exactly so; capital letters make no difference.

        Args:
            text: A few words.
        """
        wanted = " ".join(text.split()).casefold()
        if not wanted:
            raise ToolError("expected words to look for, found none")
        numbers = [n for n, paragraph in enumerate(self._document.paragraphs, 1) if wanted in paragraph.casefold()]
        if not numbers:
            return "It stands in no paragraph."
        more = "" if len(numbers) <= _MOST_FOUND else f" and {len(numbers) - _MOST_FOUND} more"
        return f"It stands in paragraphs {', '.join(map(str, numbers[:_MOST_FOUND]))}{more}."

    def task_prompt(self) -> str:
        """What the document is like, how it can be read, and the question."""
        parts = [_RULES.format(count=len(self._document))]
        if SELF in self.sub_models:
            parts.append(_ASK_RULES + (_DEEPER if self.budget.depth > 1 else ""))
        if others := [name for name in self.sub_models if name != SELF]:
            parts.append(_OTHERS.format(names=", ".join(others)))
        return "\n\n".join([*parts, _contents(self._document), f"Question: {self.task.prompt}"])

    def score(self, answer: str | None) -> dict[str, float]:
        """Exact match and F1 against the answer and its aliases; what was read, and by whom."""
        task, count = self.task, len(self._document)
        scores = {
            "correct": exact_match(answer, task.answer or "", task.aliases) if answer is not None else 0.0,
            "f1": f1_score(answer, task.answer or "", task.aliases) if answer is not None else 0.0,
            "coverage": len(self._seen) / count,
            "read_share": len(self._seen_alone) / count,
        }
        supporting = task.metadata.get("supporting")
        if supporting:
            scores["evidence"] = sum(number in self._seen for number in supporting) / len(supporting)
        return scores

    def _answer(self, turn: ParsedTurn, results: list[CallResult], sampled_tokens: int | None) -> StepOutcome:
        """As `ToolEnv`; the calls of the policy's own turns come here, those of its sub-models do not."""
        for result in results:
            if result.name == "read" and result.error is None:
                first, last = self._span(result.arguments["start"], result.arguments.get("count", 1))
                self._seen_alone.update(range(first, last + 1))
        return super()._answer(turn, results, sampled_tokens)

    def _span(self, start: int, count: int) -> tuple[int, int]:
        """First and last of the paragraphs that one call gives: whole ones, as many as fit."""
        paragraphs = len(self._document)
        if not 1 <= start <= paragraphs:
            raise ToolError(f"start must be 1 to {paragraphs}, found {start}")
        if count < 1:
            raise ToolError(f"count must be at least 1, found {count}")
        room = self.toolbox.max_output - _NOTE
        end = min(start + min(count, self._page) - 1, paragraphs)
        last = start - 1
        while last < end:
            room -= len(_line(last + 1, self._document[last + 1])) + 1
            if room < 0 and last >= start:
                break
            last += 1
        return start, last

    def _make_document(self) -> Document:
        task = self.task
        match task.metadata:
            case {"passages": [_, *_] as passages} if all(isinstance(name, str) for name in passages):
                document = Document([("Passages", self._paragraphs_of(passages))])
            case {"documents": [_, *_] as documents} if all(_is_document(each) for each in documents):
                document = Document((each.get("title", ""), split_text(each["text"])) for each in documents)
            case _:
                raise TaskError(
                    f'task {task.id!r} has no document: expected "documents", a list of {{"title", "text"}}, or '
                    f'"passages", a list of ids, in its metadata'
                )
        supporting = task.metadata.get("supporting") or ()
        if not document.words or not all(isinstance(n, int) and 1 <= n <= len(document) for n in supporting):
            raise TaskError(
                f"task {task.id!r}: expected a document with text, and supporting paragraphs within it; found "
                f"{len(document)} paragraphs, supporting {list(supporting)}"
            )
        return document

    def _paragraphs_of(self, passages: list[str]) -> list[str]:
        if self._corpus is None:
            raise TaskError(f"task {self.task.id!r} names passages of a corpus; give corpus=<file of passages>")
        try:
            return [paragraph for name in passages for paragraph in self._corpus.paragraphs(name)]
        except KeyError as error:
            raise TaskError(
                f"task {self.task.id!r} needs the passage {error}, which is not in {self._corpus.where}"
            ) from None


def _line(number: int, paragraph: str) -> str:
    return f"[{number}] {paragraph}"


def _contents(document: Document) -> str:
    """How long the document is and, if it has several sections, where they are."""
    lines = [f"The document has {len(document)} paragraphs and {document.words} words."]
    if len(document.sections) > 1:
        for s in document.sections[:_MOST_SECTIONS]:
            lines.append(f"Paragraphs {s.first} to {s.last}: {s.title or 'untitled'} ({s.words} words)")
        if len(document.sections) > _MOST_SECTIONS:
            lines.append(f"... and {len(document.sections) - _MOST_SECTIONS} more parts")
    return "\n".join(lines)


def _is_document(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str) and isinstance(value.get("title", ""), str)


# A rollout makes one environment per episode in flight; they share what is read from the same files.
@functools.lru_cache(maxsize=8)
def _read_tasks(
    corpus: str, questions: str, words: int | tuple[int, ...], seed: int, *stamps: tuple[int, int]
) -> TaskSet:
    return long_document_tasks(corpus, questions, words=words, seed=seed)
