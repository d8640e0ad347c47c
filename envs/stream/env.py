"""The Stream environment."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..budgets import Budget
from ..protocol import ParsedTurn, Spelling
from ..tasks import Split, Task, TaskError, TaskSet
from ..tasks.splits import SPLIT_SIZE
from ..tool_env import StepOutcome, ToolEnv
from ..tools import CallResult, tool
from .facts import newest, read_facts
from .tasks import VERSION, Pairs, StreamTasks, When

END = "end"
"""What the tool `read` gives after the last chunk."""
_RULES = """Read a stream of facts with the tool read: each call gives the next chunk, once; after the last one it \
says "end". The fact "E5 R2 E31" says that relation R2 leads from E5 to E31; a later fact about the same entity and \
relation replaces the earlier one. The query names an entity and relations: start at the entity, follow the relations \
one after the other, and answer with the entity that you come to. Of two queries the last chunk says which counts."""


class StreamEnv(ToolEnv):
    """Read a stream of facts that is longer than the context, then answer a query about them.

    The compression is not the environment's but the agent's: with a context window of the policy `learned` that fits a
    summary and one chunk, the policy must write a summary before every chunk; in a larger one it chooses when.

    Args:
        split: `train`, `validation` or `test`.
        chunks: Smallest and largest number of chunks: the difficulty.
        facts: Facts in a chunk.
        entities: Number of entities.
        relations: Number of relations.
        hops: Smallest and largest number of relations in a query.
        query: `start` (the prompt has the query) or `end` (the prompt has two, the last chunk says which one counts).
        overwritten: Share of facts that get a new value later.
        shared: Distractors that have a relation of the query.
        pairs: `train`, `held_out` or `all`: which pairs of relations follow each other in a query.
        size: How many tasks.
        tasks: A task set in place of the generated one.
        spelling: `words` by default: the family is made for models that are trained from scratch.
        budget: By default twice as many turns as the longest stream has chunks (a call and a summary each), and four.
        options: Everything else that `ToolEnv` takes.
    """

    version = VERSION

    def __init__(
        self,
        *,
        split: Split | str = Split.TRAIN,
        chunks: tuple[int, int] = (3, 6),
        facts: int = 5,
        entities: int = 24,
        relations: int = 9,
        hops: tuple[int, int] = (1, 3),
        query: When = "start",
        overwritten: float = 0.15,
        shared: int = 3,
        pairs: Pairs = "train",
        size: int = SPLIT_SIZE,
        tasks: TaskSet | Iterable[Task] | str | Path | None = None,
        spelling: Spelling | str = Spelling.WORDS,
        budget: Budget | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._words = [*(f"E{n}" for n in range(entities)), *(f"R{n}" for n in range(relations))]
        if tasks is None:
            tasks = StreamTasks(
                split,
                (chunks[0], chunks[1]),
                facts,
                entities,
                relations,
                (hops[0], hops[1]),
                query,
                overwritten,
                shared,
                pairs,
                size,
            )
        super().__init__(tasks, spelling=spelling, budget=budget or Budget(turns=2 * chunks[1] + 4), **options)

    def begin(self) -> None:
        """Nothing was read, nothing is summarised.

        Raises:
            TaskError: the task is not one of this family.
        """
        missing = [name for name in ("chunks", "query", "queries", "path") if name not in self.task.metadata]
        if missing:
            raise TaskError(f"task {self.task.id!r} is not of the Stream family: its metadata lacks {missing[0]!r}")
        self._chunks: list[str] = []
        """What was read."""
        self._seen = 0
        """Chunks of these that certainly stood in a context: a window may hold back what came last."""
        self._answered = 0
        """Chunks that had been read when the last turn was answered."""
        self._summary = ""
        self._compressed = 0
        """Chunks that stood in a context that ended with a summary."""

    @tool(timeout=None)
    def read(self) -> str:
        """Read the next chunk of the stream."""
        chunks: list[str] = self.task.metadata["chunks"]
        if len(self._chunks) == len(chunks):
            return END
        self._chunks.append(chunks[len(self._chunks)])
        return self._chunks[-1]

    def task_prompt(self) -> str:
        """The query; for models that were not trained on it, with what a stream is."""
        return self.task.prompt if self.codec.spelling is Spelling.WORDS else f"{_RULES}\n\n{self.task.prompt}"

    def score(self, answer: str | None) -> dict[str, float]:
        """Score the episode.

        `correct`: the answer is the entity that the query leads to. `fact_recall`: share of the chain's facts, as they
        are after the whole stream, that stand in the last summary or were read after it. And of the last summary, each
        where it has facts to judge: `stale`, the share of its facts about the chain's entities and relations that had
        been overwritten before it was written; `updated`, the share that was true among those whose entity and relation
        had got a new value; `precision`, the share of its facts that were true and have a relation of the query.
        """
        metadata = self.task.metadata
        steps = zip(pairwise(metadata["path"]), metadata["query"][1:], strict=True)
        chain = [(entity, relation, value) for (entity, value), relation in steps]
        after = set(read_facts(" ".join([self._summary, *self._chunks[self._compressed :]])))
        scores = {
            "correct": float(answer == self.task.answer),
            "fact_recall": sum(fact in after for fact in chain) / len(chain),
        }
        kept = read_facts(self._summary)
        compressed = read_facts(" ".join(self._chunks[: self._compressed]))
        known = newest(compressed)
        relations = {relation for query in metadata["queries"] for relation in query[1:]}
        slots = {(e, r) for e, r, _ in chain}
        changed = {(e, r) for e, r, value in compressed if known[e, r] != value}
        true = {fact: known.get(fact[:2]) == fact[2] for fact in kept}
        for name, shares in (
            ("stale", [not true[fact] for fact in kept if fact[:2] in slots]),
            ("updated", [true[fact] for fact in kept if fact[:2] in slots & changed]),
            ("precision", [true[fact] and fact[1] in relations for fact in kept]),
        ):
            if shares:
                scores[name] = sum(shares) / len(shares)
        return scores

    def _answer(self, turn: ParsedTurn, results: list[CallResult], sampled_tokens: int | None) -> StepOutcome:
        """As `ToolEnv`; keeps what the summaries say, and what they are about."""
        if turn.error is None:
            if turn.summary is None:
                self._seen = self._answered
            else:
                self._note(turn.summary)
        self._answered = len(self._chunks)
        return super()._answer(turn, results, sampled_tokens)

    def _note(self, summary: str) -> None:
        """Keep a summary, and which chunks it was written about.

        A window that asks for the summary holds back what was read last, and shows it after the summary. That happened
        unless the summary has something that only stands there.
        """
        known = set(read_facts(" ".join(self._chunks[: self._seen])))
        last = set(read_facts(" ".join(self._chunks[self._seen :])))
        held_back = not (last - known) & set(read_facts(summary))
        self._compressed = self._seen if held_back else len(self._chunks)
        self._summary = summary
        self._seen = len(self._chunks)

    def vocabulary(self) -> list[str]:
        """Entities, relations, step numbers and the words of prompts, plans, chunks and the summary's request."""
        words = ["query", "or", ";", "read", END, self.codec.summary_request]
        return [*words, *self._words, *(f"{n}." for n in range(1, 10)), *map(str, range(1, 10))]
