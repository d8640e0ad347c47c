"""Plans: numbered steps, each of which may wait for earlier ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import ContentError, excerpt

_AFTER = re.compile(r"\(\s*after\s+(\d{1,3}(?:(?:\s*,\s*|\s+and\s+|\s+)\d{1,3}){0,99})\s*\)\Z")
_LINE = re.compile(r"(\d{1,3})\.\s+(.+)\Z", re.DOTALL)
MAX_STEPS = 100


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of a plan."""

    number: int
    text: str
    after: tuple[int, ...] = ()
    """Steps whose results this one needs; steps that do not wait for each other may run concurrently."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: a directed acyclic graph, because a step can only wait for steps with a smaller number."""

    steps: tuple[PlanStep, ...]

    @classmethod
    def from_lines(cls, lines: list[str]) -> Plan:
        """Read steps, one a line: `2. Find who directed it (after 1)`.

        Raises:
            ContentError: no steps, too many, a line that is not a step, wrong numbering, or an impossible dependency.
        """
        if not lines:
            raise ContentError("at least one numbered step such as '1. find the director'", "an empty plan")
        if len(lines) > MAX_STEPS:
            raise ContentError(f"at most {MAX_STEPS} steps", f"{len(lines)}")
        return cls(tuple([_read_step(number, line) for number, line in enumerate(lines, 1)]))


def _read_step(number: int, line: str) -> PlanStep:
    match = _LINE.match(line)
    if match is None or int(match[1]) != number:
        raise ContentError(f"plan step '{number}. ...'", excerpt(line))
    text = match[2].rstrip()
    if not text.endswith(")"):
        return PlanStep(number, text)
    opening = text.rfind("(")
    dependencies = _AFTER.match(text, opening) if opening >= 0 else None
    if dependencies is None:
        return PlanStep(number, text)
    after = tuple(sorted({int(n) for n in re.findall(r"\d+", dependencies[1])}))
    for n in after:
        if not 1 <= n < number:
            raise ContentError(f"step {number} to come after earlier steps only", f"'after {n}'")
    return PlanStep(number, text[:opening].rstrip(), after)
