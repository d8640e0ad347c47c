"""Ways of working on a task: which calls are made in which turn, whatever the spelling."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ..protocol import PlanStep
from ..sub_models import ASK
from .world import Chain

LOOK_UP = "look_up"


@dataclass(frozen=True, slots=True)
class Do:
    """One call, and the plan step that it serves."""

    step: int
    tool: str
    text: str
    """What is asked: `E3 R1`."""


@dataclass(frozen=True, slots=True)
class Act:
    """One turn: calls, or an answer."""

    calls: Sequence[Do] = ()
    answer: str = ""
    plan: Sequence[PlanStep] | None = None


Way = Generator[Act, list[str], None]
"""Yields turns and is sent the outputs of their calls."""

Then = tuple[int, str]
"""What a mixed task goes on with: which chain's result (1 is the first), and the relation to follow from it."""


def serially(parts: Sequence[Chain], then: Then | None = None) -> Way:
    """Every look-up in a turn of its own, in one context."""
    plan: list[PlanStep] = []
    last: list[int] = []
    for part in parts:
        plan.append(PlanStep(len(plan) + 1, f"{LOOK_UP} {part[0]} {part[1]}"))
        for relation in part[2:]:
            plan.append(PlanStep(len(plan) + 1, f"{LOOK_UP} {relation}", (len(plan),)))
        last.append(len(plan))
    plan += _second_stage(then, last, len(plan))
    opening: list[PlanStep] | None = plan
    results: list[str] = []
    step = 0
    for part in parts:
        entity = part[0]
        for relation in part[1:]:
            step += 1
            (entity,) = yield Act([Do(step, LOOK_UP, f"{entity} {relation}")], plan=opening)
            opening = None
        results.append(entity)
    yield from _finish(results, then, len(plan))


def side_by_side(
    parts: Sequence[Chain], then: Then | None = None, *, chosen: Sequence[int] | None = None, ask_all: bool = True
) -> Way:
    """All sub-calls in one turn, then the second stage of a mixed task.

    Args:
        parts: The chains to hand out.
        then: The second stage.
        chosen: Which of `parts` the answer is made of; all of them by default.
        ask_all: Hand out chains of a single look-up too; otherwise they are looked up.
    """
    chosen = range(len(parts)) if chosen is None else chosen
    calls = [Do(n, ASK if ask_all or len(part) > 2 else LOOK_UP, " ".join(part)) for n, part in enumerate(parts, 1)]
    plan = [PlanStep(call.step, f"{call.tool} {call.text}") for call in calls]
    plan += _second_stage(then, [n + 1 for n in chosen], len(plan))
    outputs = yield Act(calls, plan=plan)
    yield from _finish([outputs[n] for n in chosen], then, len(plan))


def cheapest(parts: Sequence[Chain], then: Then | None = None) -> Way:
    """Of the two ways the one with the shorter critical path."""
    if len(parts) > 1:
        split = critical_tokens(acts_of(side_by_side(parts, then, ask_all=False)))
        if split <= critical_tokens(acts_of(serially(parts, then))):
            return side_by_side(parts, then, ask_all=False)
    return serially(parts, then)


def acts_of(way: Way) -> list[Act]:
    """The turns of a way; every output is the same word: only lengths can be told from them."""
    acts = [next(way)]
    while acts[-1].calls:
        acts.append(way.send(["E0"] * len(acts[-1].calls)))
    return acts


def critical_tokens(acts: Sequence[Act]) -> int:
    """Tokens on the critical path, in the spelling `words` and with plans.

    Of sub-calls made in one turn only the longest counts. A section has two markers, and a token ends each turn.
    """
    total = 0
    for act in acts:
        total += 1 + (2 + len(act.answer.split()) if act.answer else 0)
        total += sum(4 + len(call.text.split()) for call in act.calls)
        if act.plan is not None:
            total += 2 + sum(1 + len(s.text.split()) + (3 + len(s.after) if s.after else 0) for s in act.plan)
        children = [acts_of(serially([call.text.split()])) for call in act.calls if call.tool == ASK]
        total += max(map(critical_tokens, children), default=0)
    return total


def _second_stage(then: Then | None, last: Sequence[int], planned: int) -> list[PlanStep]:
    """The step after `planned` others; `last` are the steps that end the chains."""
    return [] if then is None else [PlanStep(planned + 1, f"{LOOK_UP} {then[1]}", (last[then[0] - 1],))]


def _finish(results: list[str], then: Then | None, step: int) -> Way:
    if then is not None:
        index, relation = then
        results = results + (yield Act([Do(step, LOOK_UP, f"{results[index - 1]} {relation}")]))
    yield Act(answer=" ".join(results))
