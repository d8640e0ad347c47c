"""Scripted policies of the Search family."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from ..protocol import Call, PlanStep
from ..tool_env import ToolEnv
from .questions import fill_references

_REFERENCE = re.compile(r"#(\d+)")


def gold_decomposition(env: ToolEnv) -> Generator[str, str, None]:
    """Follow the decomposition that people wrote: plan its sub-questions, search for each, open what supports it.

    Sub-questions that do not wait for each other are searched for in one turn. It answers with the gold answer only if
    the passage that supports the last step came up, so its accuracy is what retrieval allows a perfect reader.
    """
    hops: list[dict[str, Any]] = env.task.metadata["decomposition"]
    needs = [sorted({int(n) for n in _REFERENCE.findall(hop["question"]) if int(n) <= i}) for i, hop in enumerate(hops)]
    plan: list[PlanStep] | None = [
        PlanStep(i, hop["question"].replace("\n", " "), tuple(after))
        for i, (hop, after) in enumerate(zip(hops, needs, strict=True), 1)
    ]
    waiting = list(range(len(hops)))
    found: set[int] = set()
    while waiting:
        ready = [i for i in waiting if all(n - 1 not in waiting for n in needs[i])]
        known = [hop["answer"] for hop in hops]
        queries = [fill_references(hops[i]["question"], known) for i in ready]
        calls = [Call("search", {"query": q, "k": 5}, i + 1) for i, q in zip(ready, queries, strict=True)]
        results = yield env.codec.write_turn(plan=plan, think="Search for what is known enough.", calls=calls)
        plan = None
        opened = [i for i in ready if f"[{hops[i]['support_id']}]" in results]
        found |= set(opened)
        if opened:
            yield env.codec.write_turn(
                think="Read what supports it.",
                calls=[Call("open", {"document": hops[i]["support_id"]}, i + 1) for i in opened],
            )
        waiting = [i for i in waiting if i not in ready]
    last = len(hops) - 1
    yield env.codec.write_turn(think="", answer=env.task.answer if last in found else "unknown")


def search_once(env: ToolEnv) -> Generator[str, str, None]:
    """A naive policy: one search with the whole question, and the title of the best hit as the answer."""
    call = Call("search", {"query": env.task.prompt, "k": 1}, 1)
    results = yield env.codec.write_turn(plan=["search for the question"], calls=[call])
    title = re.search(r"\] (.*?):", results)
    yield env.codec.write_turn(answer=title[1] if title else "unknown")
