"""Tasks of the Delegate family: the supporting passages of a question spread over a document of other passages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..search.questions import load_questions
from ..tasks import Task, TaskError, TaskSet
from .documents import Corpus, file_stamp, open_corpus

VERSION = "1"
WINDOW_WORDS = 3000
"""The reference window of the difficulty: about 4,000 tokens of English."""


def long_document_tasks(
    corpus: str | Path, questions: str | Path, *, words: int | Sequence[int] = 16_000, seed: int = 0
) -> TaskSet:
    """Questions about documents of a chosen length.

    A document is made of the passages that support the question and of others from the same corpus, drawn at random, as
    many as fit in `words`. The supporting ones come in any order, one in each equal part of the document, neighbours at
    least half of such a part away from each other. The metadata is that of the question (`load_questions`), with
    `passages`, the ids in order, `supporting`, the numbers of the supporting paragraphs in the document, and `words`.
    The difficulty is the number of windows of `WINDOW_WORDS` words that the document fills. A task is a pure function
    of its question, the corpus, the length and the seed.

    Args:
        corpus: A corpus, in any format that `read_passages` takes; it is read into memory.
        questions: A MuSiQue or HotpotQA file, or JSON Lines of questions that name what supports them.
        words: Most words of a document, titles included; with several lengths there is a task of each for a question.
        seed: Which passages are drawn, and where the supporting ones stand.

    Raises:
        ValueError: a file cannot be read, the corpus has fewer words than asked for, or a question names no supporting
            passages, one that is not in the corpus, or more than fit.
    """
    file_stamp("questions", questions)
    rows = load_questions(questions)
    return _LongDocuments(open_corpus(corpus), rows, [words] if isinstance(words, int) else list(words), seed)


class _LongDocuments(TaskSet):
    """See `long_document_tasks`."""

    def __init__(self, corpus: Corpus, rows: list[dict[str, Any]], lengths: list[int], seed: int) -> None:
        self._corpus, self._rows, self._lengths, self._seed = corpus, rows, lengths, seed
        if not lengths or len({*lengths}) < len(lengths):
            raise ValueError(f"words must be one length or several different ones, found {lengths}")
        if max(lengths) > corpus.words:
            raise ValueError(
                f"documents of {max(lengths)} words need a corpus of as many; {corpus.where} has {corpus.words}"
            )
        self._supporting = [self._find_supporting(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows) * len(self._lengths)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        number, length = divmod(index, len(self._lengths))
        row, words = self._rows[number], self._lengths[length]
        rng = random.Random(f"{self._seed}/{row['id']}/{words}")
        passages = self._spread(self._supporting[number], words, rng)
        metadata: dict[str, Any] = dict(row["metadata"])
        metadata["passages"] = passages
        metadata["supporting"] = self._numbers(passages, {*self._supporting[number]})
        metadata["words"] = sum(self._corpus.lengths[name] for name in passages)
        return Task(
            id=f"{row['id']}@{words}w",
            prompt=row["prompt"],
            answer=row["answer"],
            aliases=tuple(row["aliases"]),
            difficulty=metadata["words"] / WINDOW_WORDS,
            metadata=metadata,
        )

    def _find_supporting(self, row: dict[str, Any]) -> list[str]:
        """Ids of the passages that support a question."""
        names = row["metadata"].get("supporting")
        if not names:
            raise TaskError(f"question {row['id']!r} names no supporting passages; a long document is made around them")
        found = []
        for name in names:
            passage_id = self._corpus.find(name)
            if passage_id is None:
                raise TaskError(
                    f"question {row['id']!r} needs the passage {name!r}, which is not in {self._corpus.where}"
                )
            found.append(passage_id)
        needed = sum(self._corpus.lengths[name] for name in {*found})
        if needed > min(self._lengths):
            raise TaskError(
                f"question {row['id']!r} needs passages of {needed} words; documents have {min(self._lengths)}"
            )
        return list(dict.fromkeys(found))

    def _spread(self, supporting: list[str], words: int, rng: random.Random) -> list[str]:
        """The supporting passages among distractors, as long as `words` allows."""
        corpus, taken = self._corpus, {*supporting}
        room = words - sum(corpus.lengths[name] for name in supporting)
        distractors: list[str] = []
        while len(taken) < len(corpus.ids):
            name = rng.choice(corpus.ids)
            if name in taken:
                continue
            room -= corpus.lengths[name]
            if room < 0:
                break
            taken.add(name)
            distractors.append(name)
        part = (len(distractors) + len(supporting)) / len(supporting)
        shift = rng.uniform(0, part / 2)
        passages = distractors
        for i, name in enumerate(rng.sample(supporting, len(supporting))):
            passages.insert(int(i * part + shift + rng.uniform(0, part / 2)), name)
        return passages

    def _numbers(self, passages: list[str], supporting: set[str]) -> list[int]:
        """Paragraph numbers of the supporting passages: a long passage is several paragraphs."""
        numbers: list[int] = []
        first = 1
        for name in passages:
            count = len(self._corpus.paragraphs(name))
            if name in supporting:
                numbers += range(first, first + count)
            first += count
        return numbers
