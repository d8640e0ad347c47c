"""Multi-hop questions as plain task rows, from MuSiQue, HotpotQA or any JSON Lines file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .passages import DataError, content_id, expect, read_rows, shorten

_REFERENCE = re.compile(r"#(\d+)")


def load_questions(path: str | Path) -> list[dict[str, Any]]:
    """The questions of a file (`.gz` or not; a JSON list or JSON Lines), in file order, as task rows.

    A row has the keys

    - `id`, `prompt` (the question), `answer`: text; `aliases`: other accepted answers;
    - `difficulty`: the number of hops as a float, or None where it is not known;
    - `metadata`: `hops`; `supporting`, the ids of the passages needed (`content_id`; as given in a generic file);
      `decomposition`, for MuSiQue one `{"question", "answer", "support", "support_id"}` a hop, where `support` is the
      title of the passage and `#1` in a question stands for the answer of hop 1 (`fill_references`).

    A generic row is `{"question" or "prompt", "answer": text or list of texts, "id"?, "aliases"?, "difficulty"?,
    "metadata"?}`.

    Raises:
        DataError: at the first row that cannot be read; one sentence with the file and the line.
        FileNotFoundError: there is no such file.
    """
    rows: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    for where, raw in read_rows(path):
        if not isinstance(raw, dict):
            raise DataError(f'{where}: expected {{"question": ..., "answer": ...}}, found {shorten(raw)}.')
        row = _reader(raw)(raw, where)
        if not row["prompt"].strip() or not row["answer"].strip():
            raise DataError(f"{where}: expected a question and an answer that are not blank, found {shorten(raw)}.")
        first = places.setdefault(row["id"], where)
        if first != where:
            raise DataError(f'{where}: expected ids to be unique, found "{row["id"]}" again (first at {first}).')
        rows.append(row)
    return rows


def fill_references(question: str, answers: Sequence[str]) -> str:
    """`question` with `#1`, `#2`, ... replaced by the answers of those hops; references past `answers` stay."""

    def fill(match: re.Match[str]) -> str:
        hop = int(match[1])
        return answers[hop - 1] if 1 <= hop <= len(answers) else match[0]

    return _REFERENCE.sub(fill, question)


def _reader(raw: dict[str, Any]) -> Callable[[dict[str, Any], str], dict[str, Any]]:
    if "question_decomposition" in raw:
        return _musique
    if "supporting_facts" in raw and "context" in raw:
        return _hotpotqa
    return _generic


def _musique(raw: dict[str, Any], where: str) -> dict[str, Any]:
    if raw.get("answerable") is False:
        raise DataError(f"{where}: expected an answerable question, found one marked unanswerable: use musique_ans.")
    paragraphs: dict[int, tuple[str, str]] = {}
    supporting = []
    for paragraph in expect(raw, "paragraphs", list, where):
        title, text = expect(paragraph, "title", str, where), expect(paragraph, "paragraph_text", str, where)
        paragraphs[expect(paragraph, "idx", int, where)] = title, text
        if paragraph.get("is_supporting"):
            supporting.append(content_id(title, text))
    decomposition = []
    for hop in expect(raw, "question_decomposition", list, where):
        index = expect(hop, "paragraph_support_idx", int, where)
        if index not in paragraphs:
            raise DataError(f"{where}: expected a paragraph with idx {index}, found only {sorted(paragraphs)}.")
        title, text = paragraphs[index]
        question, answer = expect(hop, "question", str, where), expect(hop, "answer", str, where)
        support = {"support": title, "support_id": content_id(title, text)}
        decomposition.append({"question": question, "answer": answer, **support})
    hops = len(decomposition)
    metadata = {"hops": hops, "decomposition": decomposition, "supporting": supporting}
    aliases = _texts(raw, "answer_aliases", where)
    return _row(raw, "id", where, aliases=aliases, difficulty=float(hops), metadata=metadata)


def _hotpotqa(raw: dict[str, Any], where: str) -> dict[str, Any]:
    passages: dict[str, str] = {}
    for pair in expect(raw, "context", list, where):
        match pair:
            case [str(title), [*sentences]] if all(isinstance(sentence, str) for sentence in sentences):
                passages[title] = content_id(title, "".join(sentences))
            case _:
                raise DataError(f"{where}: expected context pairs [title, [sentence, ...]], found {shorten(pair)}.")
    supporting: dict[str, None] = {}
    for fact in expect(raw, "supporting_facts", list, where):
        match fact:
            case [str(title), int()] if title in passages:
                supporting[passages[title]] = None
            case _:
                raise DataError(f"{where}: expected facts [title in the context, sentence], found {shorten(fact)}.")
    metadata = {"hops": 2, "decomposition": [], "supporting": list(supporting), "level": raw.get("level")}
    return _row(raw, "_id", where, aliases=[], difficulty=2.0, metadata=metadata)


def _generic(raw: dict[str, Any], where: str) -> dict[str, Any]:
    question_key = "question" if "question" in raw else "prompt"
    answers = raw.get("answer")
    if not isinstance(answers, list):
        answers = [expect(raw, "answer", str, where)]
    elif not answers or not all(isinstance(answer, str) for answer in answers):
        raise DataError(f'{where}: expected "answer" to be a text or a list of texts, found {shorten(answers)}.')
    difficulty = raw.get("difficulty")
    if difficulty is not None and (isinstance(difficulty, bool) or not isinstance(difficulty, (int, float))):
        raise DataError(f'{where}: expected "difficulty" to be a number or null, found {shorten(difficulty)}.')
    return {
        "id": str(raw.get("id") or content_id("", expect(raw, question_key, str, where))),
        "prompt": expect(raw, question_key, str, where),
        "answer": answers[0],
        "aliases": [*answers[1:], *_texts(raw, "aliases", where)],
        "difficulty": None if difficulty is None else float(difficulty),
        "metadata": expect(raw, "metadata", dict, where) if "metadata" in raw else {},
    }


def _row(raw: dict[str, Any], id_key: str, where: str, **rest: Any) -> dict[str, Any]:
    question, answer = expect(raw, "question", str, where), expect(raw, "answer", str, where)
    return {"id": expect(raw, id_key, str, where), "prompt": question, "answer": answer, **rest}


def _texts(raw: dict[str, Any], key: str, where: str) -> list[str]:
    texts = expect(raw, key, list, where) if key in raw else []
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f'{where}: expected "{key}" to be a list of texts, found {shorten(texts)}.')
    return list(texts)
