"""Strategy, measured from the traces of any environment; nobody judges.

A *contradiction* is a call that failed (`CallResult.error`, an exhausted budget excepted), or one whose answer the task
marks as one: `task.metadata["contradictions"]` lists `{"name": ..., "arguments": {...}, "output": ...}`; a call with
that name and output whose arguments include those contradicts what the task said, although it worked. A *re-plan* is a
later plan with other steps than the one before it. Turns are counted within one line of contexts: those of a sub-task
are on their own, those after a summary go on.

Environments whose tasks have alternatives say in the metadata what strategy is measured against: `routes` (the plans
that the task allows, lists of steps; a step of a plan is the one that it names, if it names just one), `broken` (the
numbers of those that fail) and `oracle_calls` (the calls of the best policy that cannot know which). What needs them is
left out where they are missing.

The measures go back to: executable checks of plans, PlanBench (arXiv 2206.10498); plan adherence, Agent GPA
(2510.08847), here as a longest common subsequence; plans revised after what was observed, Plan-and-Act (2503.09572);
needless plans as a cost, Learning When to Plan (2509.03581).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...envs.loops import LoopDetector, call_key
from ...envs.tools import CallResult
from ..episode import Episode, SegmentKind, Status

Ratio = tuple[float, float]
LOOP = 3
"""How often the same call gives the same answer in a loop."""
_PUNCTUATION = ".,;:!?()[]'\"`*"


def measure(episode: Episode) -> dict[str, Ratio]:
    """Numerator and denominator of each measure in one episode; over many, the measure is the ratio of their sums.

    `plan_validity`: plans that are one of the task's `routes`, of all plans.
    `adherence`: steps that were carried out in order (longest common subsequence of the plan's steps and of the calls
    made while it was in force, a call being the step whose text is one of its arguments), of the steps that were due:
    all of a plan, or those up to the contradiction that it met. Only where the task has `routes`.
    `adherence_by_step`: the same, a call being the step whose number it names; any task, episodes that name any.
    `replan_precision`: re-plans in the turn after a contradiction, of all re-plans.
    `replan_recall`: turns with a contradiction and a re-plan in the next, of the turns with a contradiction that were
    not the last; episodes without any plan are left out.
    `detection_delay`: turns from the first contradiction under a plan to the re-plan that gave it up (1 is the best),
    mean over such re-plans.
    `recovery`: right answers, of the episodes whose first route is broken: the route that the first plan is, or, where
    there is no plan, the route that begins with the first call.
    `repeated_failures`: contradicting calls that had been made before, with the same arguments, and had been
    contradicted; of all contradicting calls.
    `call_regret`: calls beyond the oracle's (fewer are negative), mean over right episodes.
    `replans_unbroken`: re-plans, mean over the episodes of tasks that have `routes`, none of them broken.
    `loop_rate`: episodes in which one call gave one answer three times or that a loop ended, of all.
    """
    if episode.status is Status.FAULT:
        return {}
    facts: Mapping[str, Any] = episode.task.get("metadata") or {}
    lines = _lines(episode, facts)
    own = lines[0]
    measures = _against_contradictions(lines, planned=bool(episode.plans))
    looped = episode.stop_reason == "loop" or any(LoopDetector(LOOP).closes(line.calls()) for line in lines)
    measures["loop_rate"] = (float(looped), 1)
    stretches = [stretch for line in lines for stretch in line.stretches()]
    if any(call.step is not None for line in lines for call in line.calls()):
        measures["adherence_by_step"] = _sum(_adherence(stretch, _by_number) for stretch in stretches)
    correct = episode.scores.get("correct", episode.reward) >= 1
    if "oracle_calls" in facts and correct:
        measures["call_regret"] = (len(own.calls()) - facts["oracle_calls"], 1)
    if "routes" in facts:
        routes = {tuple(route) for route in facts["routes"]}
        measures["plan_validity"] = (sum(tuple(stretch.plan) in routes for stretch in stretches), len(stretches))
        measures["adherence"] = _sum(_adherence(stretch, _by_text) for stretch in stretches)
        if not facts.get("broken"):
            measures["replans_unbroken"] = (sum(len(line.replans()) for line in lines), 1)
        elif _first_route(own, facts["routes"]) in facts["broken"]:
            measures["recovery"] = (float(correct), 1)
    return measures


class _Marks:
    """The answers that a task marks as contradictions."""

    def __init__(self, marks: Iterable[Mapping[str, Any]]) -> None:
        self._arguments: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for mark in marks:
            self._arguments[mark["name"], mark["output"]].append(mark["arguments"])

    def contradict(self, call: CallResult) -> bool:
        """Whether the call failed or is marked."""
        if call.error is not None:
            return call.error != "budget"
        marked = self._arguments.get((call.name, call.output), ())
        return any(arguments.items() <= call.arguments.items() for arguments in marked)


@dataclass(slots=True)
class _Move:
    """One turn as strategy sees it."""

    plan: list[str] | None
    """Steps of the plan that the turn begins with."""
    calls: list[CallResult]
    contradicted: list[CallResult]


@dataclass(slots=True)
class _Stretch:
    """A plan and the turns in which it was in force."""

    plan: list[str]
    moves: list[_Move]


@dataclass(slots=True)
class _Line:
    """The turns of one line of contexts: the episode's own, or those of one sub-task."""

    moves: list[_Move] = field(default_factory=list)

    def calls(self) -> list[CallResult]:
        return [call for move in self.moves for call in move.calls]

    def plans(self) -> list[list[str]]:
        return [move.plan for move in self.moves if move.plan is not None]

    def stretches(self) -> list[_Stretch]:
        stretches: list[_Stretch] = []
        for move in self.moves:
            if move.plan is not None:
                stretches.append(_Stretch(move.plan, []))
            if stretches:
                stretches[-1].moves.append(move)
        return stretches

    def replans(self) -> list[int]:
        """Numbers of the turns that begin with another plan than the one in force."""
        found, plan = [], None
        for at, move in enumerate(self.moves):
            if move.plan is not None:
                if plan is not None and move.plan != plan:
                    found.append(at)
                plan = move.plan
        return found


def _lines(episode: Episode, facts: Mapping[str, Any]) -> list[_Line]:
    """The lines of contexts, the episode's own first."""
    marks = _Marks(facts.get("contradictions", ()))
    names = {step for route in facts.get("routes", ()) for step in route}
    line_of: list[int] = []
    for number, segment in enumerate(episode.segments):
        continues = segment.parent is not None and segment.kind is not SegmentKind.SUB_CALL
        line_of.append(line_of[segment.parent[0]] if continues and segment.parent else number)
    plans = {version.turn: [_named(str(step["text"]), names) for step in version.steps] for version in episode.plans}
    lines: dict[int, _Line] = {0: _Line()}
    for number, turn in enumerate(episode.turns):
        contradicted = [call for call in turn.calls if marks.contradict(call)]
        line = lines.setdefault(line_of[turn.segment], _Line())
        line.moves.append(_Move(plans.get(number), turn.calls, contradicted))
    return list(lines.values())


def _named(text: str, names: set[str]) -> str:
    """The step of the task's routes that the text of a plan's step names; the text where it names none or several."""
    found = {text} & names or {word.strip(_PUNCTUATION) for word in text.split()} & names
    return found.pop() if len(found) == 1 else text


def _against_contradictions(lines: Sequence[_Line], planned: bool) -> dict[str, Ratio]:
    repeated = failing = noticed = met = right = replans = delayed = delays = 0
    for line in lines:
        failed: set[tuple[str, str]] = set()
        changes = set(line.replans())
        since: int | None = None
        """The first contradiction under the plan in force."""
        for at, move in enumerate(line.moves):
            if at in changes:
                replans += 1
                right += bool(line.moves[at - 1].contradicted)
                if since is not None:
                    delayed += 1
                    delays += at - since
                since = None
            for call in move.contradicted:
                failing += 1
                repeated += call_key(call) in failed
                failed.add(call_key(call))
            if move.contradicted:
                since = at if since is None else since
                if at + 1 < len(line.moves):
                    met += 1
                    noticed += at + 1 in changes
    measures = {"repeated_failures": (float(repeated), float(failing))}
    if planned:
        measures["replan_precision"] = (right, replans)
        measures["replan_recall"] = (noticed, met)
        measures["detection_delay"] = (delays, delayed)
    return measures


def _by_text(call: CallResult, plan: Sequence[str]) -> list[int]:
    """Numbers of the steps that a call carries out, by what they say."""
    values = {str(value) for value in call.arguments.values()}
    return [number for number, text in enumerate(plan, 1) if text in values]


def _by_number(call: CallResult, plan: Sequence[str]) -> list[int]:
    """The number of the step that a call says it carries out."""
    return [call.step] if call.step is not None and call.step <= len(plan) else []


def _adherence(stretch: _Stretch, steps_of: Any) -> Ratio:
    """Steps carried out in order, and steps due."""
    plan = stretch.plan
    carried_out: list[list[int]] = []
    for move in stretch.moves:
        for call in move.calls:
            carried_out.append(steps_of(call, plan))
            if move.contradicted and call is move.contradicted[0]:
                reached = max((number for numbers in carried_out for number in numbers), default=1)
                return _longest_increasing(carried_out), reached
    return _longest_increasing(carried_out), len(plan)


def _longest_increasing(choices: Iterable[Sequence[int]]) -> int:
    """Length of the longest strictly increasing sequence with at most one number of each choice.

    Of the numbers that calls stand for in a plan this is the longest common subsequence (Hunt and Szymanski 1977).
    """
    ends: list[int] = []
    for numbers in choices:
        for number in sorted(numbers, reverse=True):
            place = bisect_left(ends, number)
            ends[place : place + 1] = [number]
    return len(ends)


def _first_route(line: _Line, routes: Sequence[list[str]]) -> int | None:
    """The number of the route that was taken first."""
    plans = line.plans()
    if plans:
        return routes.index(plans[0]) if plans[0] in routes else None
    first = next(iter(line.calls()), None)
    if first is None:
        return None
    return next((n for n, route in enumerate(routes) if _by_text(first, route[:1])), None)


def _sum(ratios: Iterable[Ratio]) -> Ratio:
    pairs = list(ratios)
    return float(sum(top for top, _ in pairs)), float(sum(bottom for _, bottom in pairs))
