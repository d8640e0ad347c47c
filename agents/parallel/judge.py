"""A model as the verifier: it reads a task and an answer, and says how likely the answer is right."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ...envs.tasks import Task
from ..episode import Episode, Status
from ..text_model import PromptRefused, TextModel
from .attempts import Spent
from .errors import ParallelError
from .strategies import BestOf

QUESTION = """You judge an answer. You are not told whether it is right: find out.

Task:
{task}

Answer:
{answer}

How likely is it, in percent, that this answer is right? End with a line that holds nothing but the number."""
_PLACE = re.compile(r"\{task\}|\{answer\}")
"""Not for `str.format`: tasks and answers hold braces."""
_NUMBER = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d{1,9})?) ?%?[.*]{0,3}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge said of one answer to one task."""

    judge: str
    task_id: str
    answer: str
    score: float
    """0 to 1; 0 where the reply does not end with a number."""
    reply: str
    output_tokens: int = 0
    cost: float = 0.0


async def judge_episodes(
    folder: str | Path,
    episodes: Iterable[Episode],
    judge: TextModel,
    *,
    question: str = QUESTION,
    concurrency: int = 32,
) -> tuple[BestOf, dict[str, Spent]]:
    """Have a model judge the answers of a run.

    It is shown the task's prompt and the answer, nothing else, and each answer to a task once. An attempt without an
    answer scores below all others. `judgements.jsonl` in the folder keeps what it said, and what stands there is not
    asked again: a run that was killed goes on.

    Args:
        folder: The run's folder.
        episodes: Its episodes.
        judge: The model. Judges are told apart by name: give another model, or another question, another name.
        question: What it is asked, with the places `{task}` and `{answer}`.
        concurrency: Most questions at once.

    Returns:
        A strategy with the judge's name, and what its judgements cost, by the first episode with each answer.

    Raises:
        ParallelError: `judgements.jsonl` is damaged.
        InfrastructureFault: the judge cannot be reached; what it said so far is kept.
    """
    path = Path(folder) / "judgements.jsonl"
    known = {(row.task_id, row.answer): row for row in _read(path) if row.judge == judge.name}
    first: dict[tuple[str, str], tuple[int, str]] = {}
    prompts: dict[str, str] = {}
    for episode in episodes:
        if episode.status is not Status.FAULT and episode.answer is not None:
            key = episode.task_id, episode.answer
            first[key] = min(first.get(key, (episode.attempt, episode.id)), (episode.attempt, episode.id))
            if key not in known:
                prompts[episode.task_id] = Task.from_row(episode.task, f"episode {episode.id}").prompt
    room = asyncio.Semaphore(concurrency)
    with path.open("ab", buffering=0) as file:

        async def ask(task_id: str, answer: str) -> None:
            async with room:
                places = {"{task}": prompts[task_id], "{answer}": answer}
                prompt = _PLACE.sub(lambda place: places[place[0]], question)
                judgement = await _judge(judge, task_id, answer, prompt)
            known[task_id, answer] = judgement
            file.write(json.dumps(asdict(judgement)).encode("ascii") + b"\n")

        asking = [asyncio.create_task(ask(*key)) for key in sorted(first.keys() - known.keys())]
        try:
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
    spent = {
        episode: Spent(sampled_tokens=row.output_tokens, critical_tokens=row.output_tokens, cost=row.cost)
        for key, (_, episode) in first.items()
        for row in (known[key],)
    }
    return BestOf(lambda e: -1.0 if e.answer is None else known[e.task_id, e.answer].score, judge.name), spent


async def _judge(judge: TextModel, task_id: str, answer: str, prompt: str) -> Judgement:
    try:
        said = await judge.answer(prompt)
    except PromptRefused as refusal:
        return Judgement(judge=judge.name, task_id=task_id, answer=answer, score=0.0, reply=f"refused: {refusal}")
    number = _NUMBER.search(said.text.strip())
    return Judgement(
        judge=judge.name,
        task_id=task_id,
        answer=answer,
        score=min(1.0, float(number[1]) / 100) if number else 0.0,
        reply=said.text,
        output_tokens=said.output_tokens,
        cost=said.cost,
    )


def _read(path: Path) -> list[Judgement]:
    """The judgements on disk; what a killed writer left of a line is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(Judgement(**json.loads(line)))
        except (ValueError, TypeError):
            raise ParallelError(f"{path}, line {number}: not a judgement; mend the line or delete the file") from None
    return rows
