"""Plan steps as rows: what a plan may hold, and how far two plans are from each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...envs.protocol import Plan, PlanStep, Spelling, codec_for, parse_turn
from ...envs.protocol.plan import MAX_STEPS

Step = Mapping[str, Any]
"""`{"number": int, "text": str, "after": [int, ...]}`, as in an episode."""

_REFERENCE = re.compile(r"#\d+")


def are_steps(value: Any) -> bool:
    """Whether a value read from JSON plainly is a list of at most `MAX_STEPS` steps."""
    if type(value) is not list or len(value) > MAX_STEPS:
        return False
    for row in value:
        if type(row) is not dict or row.keys() != {"number", "text", "after"} or type(row["after"]) is not list:
            return False
        if type(row["number"]) is not int or row["number"] < 1 or type(row["text"]) is not str:
            return False
        if any(type(n) is not int for n in row["after"]):
            return False
    return True


def plan_to_rows(plan: Plan) -> list[dict[str, Any]]:
    """The steps of a plan as rows."""
    return [{"number": step.number, "text": step.text, "after": list(step.after)} for step in plan.steps]


def rows_to_steps(rows: Sequence[Step]) -> list[PlanStep]:
    """The steps of rows, numbered in their order."""
    return [PlanStep(number, row["text"], tuple(row["after"])) for number, row in enumerate(rows, 1)]


def find_problems(rows: Sequence[Step], spelling: Spelling | str = Spelling.JSON) -> list[str]:
    """What keeps the steps from being a plan, one sentence each; empty for a plan that reads back as it is."""
    if not rows:
        return ["A plan has at least one step."]
    if len(rows) > MAX_STEPS:
        return [f"A plan has at most {MAX_STEPS} steps, this one has {len(rows)}."]
    problems = []
    for number, row in enumerate(rows, 1):
        if not row["text"].strip():
            problems.append(f"Step {number} is empty.")
        if len(row["text"].splitlines()) > 1:
            problems.append(f"Step {number} has a line break.")
        problems += [
            f"Step {number} cannot wait for step {n}: it can only wait for steps before it."
            for n in row["after"]
            if not 1 <= n < number
        ]
    return problems or _lost_in_writing(rows, codec_for(spelling).spelling)


def step_distance(first: Sequence[Step], second: Sequence[Step]) -> int:
    """Fewest steps to insert, delete or rewrite to make one plan of the other.

    Steps are the same when their words are: case, spacing and the numbers of `#1`, `#2`, ... do not count, because an
    inserted step changes the numbers of all that follow.
    """
    a, b = [_words(row) for row in first], [_words(row) for row in second]
    while a and b and a[-1] == b[-1]:
        del a[-1], b[-1]
    while a and b and a[0] == b[0]:
        del a[0], b[0]
    above = list(range(len(b) + 1))
    for i, step in enumerate(a, 1):
        line = [i]
        for j, other in enumerate(b, 1):
            line.append(min(above[j] + 1, line[-1] + 1, above[j - 1] + (step != other)))
        above = line
    return above[-1]


def _words(row: Step) -> str:
    return _REFERENCE.sub("#", " ".join(row["text"].split()).casefold())


def _lost_in_writing(rows: Sequence[Step], spelling: Spelling) -> list[str]:
    """Steps that the protocol would read as something else than what was meant."""
    codec = codec_for(spelling)
    steps = rows_to_steps(rows)
    read = parse_turn(codec.write_turn(plan=steps, answer="-"), codec)
    if read.error is None and read.plan is not None:
        found = [(" ".join(step.text.split()), step.after) for step in read.plan.steps]
        meant = [(" ".join(step.text.split()), tuple(sorted(step.after))) for step in steps]
        if found == meant:
            return []
        if len(found) == len(meant):
            wrong = [n for n, (a, b) in enumerate(zip(found, meant, strict=True), 1) if a != b]
            if wrong:
                return [f"Step {wrong[0]} would be read as another step: take '(after ...)' out of its text."]
    return ["The text of a step would be read as the end of the plan or as the beginning of another step."]
