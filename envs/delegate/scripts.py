"""Scripted policies of the Delegate family: the oracle that delegates, one that reads everything, one that guesses.

A script is run once in every context. They read through the tools like anybody, but know from the metadata which of the
paragraphs that they have read matter.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable

from ..protocol import Call, Mode, PlanStep
from ..sub_models import ASK, SELF
from ..tasks import TaskError
from ..tool_env import ToolEnv
from .documents import sentences_of
from .env import DelegateEnv
from .tasks import WINDOW_WORDS

Script = Generator[str, str, None]

LEAF_WORDS = WINDOW_WORDS // 2
"""What one context reads itself."""
WIDEST = 8
"""Sub-tasks that one context hands out before it has sub-models hand out theirs: each costs the tokens of its call."""
NOTHING, UNKNOWN = "nothing", "unknown"
_RESPONSE = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_SHOWN = re.compile(r"^\[(\d+)\] ", re.MULTILINE)
_RANGE = re.compile(r"paragraphs (\d+) to (\d+)")
_MARK = re.compile(r"\[(\d+)\]")


def map_reduce(env: ToolEnv) -> Script:
    """Hand the document out in parts side by side, each small enough to be read, and put the answers together.

    A sub-model reads its part and answers with the sentences that support the answer, or "nothing". Where the parts are
    too many for one context, sub-models divide theirs again, as deep as the budget allows. The root answers with the
    gold answer if a sentence of every supporting paragraph came up. Of a document that needs no division it reads
    everything itself.
    """
    root = _root(env)
    first, last = (1, len(root.document)) if env.parent is None else _asked_for(env)
    parts = _divide(env, first, last)
    if len(parts) > 1:
        found = yield from _hand_out(env, parts)
    else:
        found = _quotes(root, (yield from _read_all(env, first, last)))
    if env.parent is None:
        yield from _conclude(root, found)
    else:
        yield env.codec.write_turn(answer=" ".join(found) or NOTHING)


def serial(env: ToolEnv) -> Script:
    """Read the whole document in one context, page by page, and answer with the gold answer.

    With a window that learns, a summary keeps the supporting sentences and the number of the last paragraph.
    """
    root = _root(env)
    shown = yield from _read_all(env, 1, len(root.document))
    yield from _conclude(root, _quotes(root, shown))


def peek(env: ToolEnv) -> Script:
    """Read the beginning and answer with the heading there that has most words of the question."""
    asked = set(env.task.prompt.casefold().split())
    text = yield env.codec.write_turn(plan=_plan(env, ["read the beginning", "guess"]), calls=[_read(env, 1, 10)])
    headings = [line.partition("] ")[2].partition(":")[0] for line in text.splitlines() if _SHOWN.match(line)]
    best = max(headings, key=lambda heading: len(asked & set(heading.casefold().split())))
    yield env.codec.write_turn(answer=best.strip() or UNKNOWN)


def _divide(env: ToolEnv, first: int, last: int) -> list[tuple[int, int]]:
    """The parts in which a context hands out its stretch of the document; one part: it reads that itself."""
    document = _root(env).document
    leaf = max(1, LEAF_WORDS * len(document) // document.words)
    leaves = -(-(last - first + 1) // leaf)
    below = env.budget.depth - env.depth
    if SELF not in env.sub_models:
        return [(first, last)]
    wide = leaves if leaves <= WIDEST else next(n for n in range(leaves + 1) if n**below >= leaves)
    size = -(-(last - first + 1) // wide)
    return [(start, min(start + size - 1, last)) for start in range(first, last + 1, size)]


def _hand_out(env: ToolEnv, parts: list[tuple[int, int]]) -> Generator[str, str, list[str]]:
    """Ask a sub-model about each part, as many in one turn as the budget allows; returns what they quoted."""
    question = _root(env).task.prompt
    width = env.budget.width or len(parts)
    plan: list[str | PlanStep] = ["ask about each part of the document"]
    plan.append(PlanStep(2, "answer from what they quote", (1,)))
    quoted: list[str] = []
    for i in range(0, len(parts), width):
        calls = [_ask(env, first, last, question) for first, last in parts[i : i + width]]
        text = yield env.codec.write_turn(plan=_plan(env, plan) if i == 0 else None, calls=calls)
        quoted += [answer for answer in _RESPONSE.findall(text) if _MARK.match(answer)]
    return quoted


def _read_all(env: ToolEnv, first: int, last: int) -> Generator[str, str, set[int]]:
    """Read a stretch page by page; returns the numbers of its paragraphs that were seen."""
    root = _root(env)
    seen: set[int] = set()
    following = first
    plan = _plan(env, ["read", PlanStep(2, "answer", (1,))])
    while following <= last:
        text = yield env.codec.write_turn(plan=plan, calls=[_read(env, following, last - following + 1)])
        plan = None
        while text.endswith(env.codec.summary_request):
            kept = " ".join([*_quotes(root, seen), f"Read up to {following - 1}."])
            text = yield env.codec.write_turn(summary=kept)
        shown = {int(number) for number in _SHOWN.findall(_RESPONSE.findall(text)[-1])}
        seen |= shown
        following = max(shown, default=last) + 1
    return seen


def _conclude(env: DelegateEnv, quoted: Iterable[str]) -> Script:
    found = {int(number) for text in quoted for number in _MARK.findall(text)}
    supported = found.issuperset(env.task.metadata["supporting"])
    yield env.codec.write_turn(answer=env.task.answer if supported and env.task.answer else UNKNOWN)


def _quotes(env: DelegateEnv, seen: set[int]) -> list[str]:
    """Of every supporting paragraph that was seen, the sentence with the answer to the question or to a part of it."""
    metadata = env.task.metadata
    answers = [env.task.answer or "", *(hop["answer"] for hop in metadata.get("decomposition") or ())]
    quotes = []
    for number in metadata["supporting"]:
        if number in seen:
            sentences = sentences_of(env.document[number])
            fitting = (s for s in sentences if any(a and a.casefold() in s.casefold() for a in answers))
            quotes.append(f"[{number}] {next(fitting, sentences[0])}")
    return quotes


def _asked_for(env: ToolEnv) -> tuple[int, int]:
    """The paragraphs that a sub-task names."""
    match = _RANGE.search(env.task.prompt)
    assert match is not None, "only this script asks"
    return int(match[1]), int(match[2])


def _ask(env: ToolEnv, first: int, last: int, question: str) -> Call:
    task = f"Read paragraphs {first} to {last} and quote what helps to answer, or answer: {NOTHING}. {question}"
    arguments = {"task": task} if len(env.sub_models) == 1 else {"task": task, "context": "", "model": SELF}
    return Call(ASK, arguments, None if env.mode is Mode.BARE else 1)


def _read(env: ToolEnv, start: int, count: int) -> Call:
    return Call("read", {"start": start, "count": count}, None if env.mode is Mode.BARE else 1)


def _plan(env: ToolEnv, steps: list[str | PlanStep]) -> list[str | PlanStep] | None:
    return None if env.mode is Mode.BARE else steps


def _root(env: ToolEnv) -> DelegateEnv:
    root = env.root
    if not isinstance(root, DelegateEnv) or not root.task.metadata.get("supporting"):
        raise TaskError(f"task {root.task.id!r} does not say which paragraphs support its answer")
    return root
