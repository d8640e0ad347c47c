"""Scripted policies of the Search family."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from ..protocol import Call, Mode, PlanStep
from ..tasks import TaskError
from ..tool_env import ToolEnv
from .questions import fill_references

_REFERENCE = re.compile(r"#(\d+)")


def gold_decomposition(env: ToolEnv) -> Generator[str, str, None]:
    """Follow the decomposition that people wrote: plan its sub-questions, search for each, open what supports it.

    Sub-questions that do not wait for each other are searched for in one turn. It answers with the gold answer only if
    the passage that supports the last step came up, so its accuracy is what retrieval allows a perfect reader.
    """
    hops: list[dict[str, Any]] = env.task.metadata.get("decomposition") or []
    if not hops:
        raise TaskError(
            f"task {env.task.id!r} has no decomposition to follow: gold_decomposition needs MuSiQue questions"
        )
    bare = env.mode == Mode.BARE
    needs = [
        sorted({n for n in map(int, _REFERENCE.findall(hop["question"])) if 1 <= n <= i}) for i, hop in enumerate(hops)
    ]
    plan: list[PlanStep] | None = [
        PlanStep(i, " ".join(hop["question"].split()), tuple(after))
        for i, (hop, after) in enumerate(zip(hops, needs, strict=True), 1)
    ]
    waiting = list(range(len(hops)))
    found: set[int] = set()
    while waiting:
        ready = [i for i in waiting if all(n - 1 not in waiting for n in needs[i])]
        known = [hop["answer"] for hop in hops]
        queries = [fill_references(hops[i]["question"], known) for i in ready]
        results = yield env.codec.write_turn(
            plan=None if bare else plan,
            think=None if bare else "Search for what is known enough.",
            calls=[
                Call("search", {"query": q, "k": 5}, None if bare else i + 1)
                for i, q in zip(ready, queries, strict=True)
            ],
        )
        plan = None
        opened = [i for i in ready if f"[{hops[i]['support_id']}]" in results]
        found |= set(opened)
        if opened:
            yield env.codec.write_turn(
                think=None if bare else "Read what supports it.",
                calls=[Call("open", {"document": hops[i]["support_id"]}, None if bare else i + 1) for i in opened],
            )
        waiting = [i for i in waiting if i not in ready]
    yield env.codec.write_turn(answer=env.task.answer if len(hops) - 1 in found else "unknown")


def search_once(env: ToolEnv) -> Generator[str, str, None]:
    """A naive policy: one search with the whole question, and the title of the best hit as the answer."""
    bare = env.mode == Mode.BARE
    call = Call("search", {"query": env.task.prompt, "k": 1}, None if bare else 1)
    results = yield env.codec.write_turn(plan=None if bare else ["search for the question"], calls=[call])
    title = re.search(r"\] (.*?):", results)
    yield env.codec.write_turn(answer=title[1] if title else "unknown")
