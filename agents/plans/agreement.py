"""How far reviewers agree, and how much they change: kappa over accept and reject, edit distance over steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .steps import step_distance

_Key = tuple[str | int | bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Two reviewers, on the plans that both decided."""

    first: str
    second: str
    plans: int
    observed: float
    """Share of the plans on which both decided the same."""
    kappa: float | None
    """Cohen's; None where chance alone would make them agree always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEdits:
    """What reviewers did with the plans of one kind of source."""

    kind: str
    decisions: int
    accepted: float
    """Share of the decisions."""
    changed: float | None
    """Steps that accepting reviewers inserted, deleted or rewrote, as a share of the steps; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTable:
    """How far the reviewers agree."""

    decided: int
    """Plans with a decision."""
    shared: int
    """Plans with two or more decisions."""
    fleiss: float | None
    """Fleiss' kappa over the shared plans; None where chance alone would make everybody agree."""
    pairs: tuple[PairAgreement, ...]
    sources: tuple[SourceEdits, ...]
    apart: float | None
    """Step edit distance between the accepted versions of two reviewers, as a share of the longer one's steps."""


class Agreement:
    """Keeps the counts as decisions come, so that a table costs the same however many plans there are."""

    def __init__(self) -> None:
        self._totals: Counter[_Key] = Counter()
        self._parts: dict[str, Counter[_Key]] = {}

    def update(
        self,
        plan: str,
        kind: str,
        drafted: Sequence[Mapping[str, Any]],
        decisions: Sequence[tuple[str, bool, Sequence[Mapping[str, Any]]]],
    ) -> None:
        """Count a plan anew.

        Args:
            plan: Its id.
            kind: The kind of its source.
            drafted: Its steps before anybody changed them.
            decisions: Reviewer, whether the plan was accepted, and the steps, one for each who decided.
        """
        self._totals.subtract(self._parts.pop(plan, Counter()))
        part: Counter[_Key] = Counter()
        if decisions:
            part["decided",] = 1
            part["rated", len(decisions), sum(accepted for _, accepted, _ in decisions)] = 1
        for _, accepted, steps in decisions:
            part["kind", kind, accepted] += 1
            if accepted:
                part["edits", kind] += step_distance(drafted, steps)
                part["steps", kind] += max(len(drafted), len(steps))
        for (a, yes_a, steps_a), (b, yes_b, steps_b) in combinations(sorted(decisions, key=lambda d: d[0]), 2):
            part["pair", a, b, yes_a, yes_b] += 1
            if yes_a and yes_b:
                part["apart",] += step_distance(steps_a, steps_b)
                part["longer",] += max(len(steps_a), len(steps_b))
        self._totals.update(part)
        self._parts[plan] = part

    def table(self) -> AgreementTable:
        """The table as of now."""
        totals = {key: count for key, count in self._totals.items() if count}
        pairs = sorted({(str(key[1]), str(key[2])) for key in totals if key[0] == "pair"})
        kinds = sorted({str(key[1]) for key in totals if key[0] == "kind"})
        rated = [(int(key[1]), int(key[2]), n) for key, n in totals.items() if key[0] == "rated" and int(key[1]) > 1]
        return AgreementTable(
            decided=totals.get(("decided",), 0),
            shared=sum(count for _, _, count in rated),
            fleiss=fleiss_kappa(rated),
            pairs=tuple(self._pair(a, b) for a, b in pairs),
            sources=tuple(self._source(kind) for kind in kinds),
            apart=_ratio(totals.get(("apart",), 0), totals.get(("longer",), 0)),
        )

    def _pair(self, a: str, b: str) -> PairAgreement:
        counts = [
            self._totals["pair", a, b, x, y] for x, y in ((True, True), (True, False), (False, True), (False, False))
        ]
        plans = sum(counts)
        return PairAgreement(
            first=a, second=b, plans=plans, observed=(counts[0] + counts[3]) / plans, kappa=cohen_kappa(*counts)
        )

    def _source(self, kind: str) -> SourceEdits:
        accepted, rejected = self._totals["kind", kind, True], self._totals["kind", kind, False]
        return SourceEdits(
            kind=kind,
            decisions=accepted + rejected,
            accepted=accepted / (accepted + rejected),
            changed=_ratio(self._totals["edits", kind], self._totals["steps", kind]),
        )


def cohen_kappa(both: int, only_first: int, only_second: int, neither: int) -> float | None:
    """Cohen's kappa (1960) of two raters and two categories; None where both always choose the same one.

    Args:
        both: Items that both raters accept.
        only_first: Items that the first accepts alone.
        only_second: Items that the second accepts alone.
        neither: Items that both reject.
    """
    n = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    chance = first * second + (n - first) * (n - second)
    return None if chance == n * n else (n * (both + neither) - chance) / (n * n - chance)


def fleiss_kappa(rated: Sequence[tuple[int, int, int]]) -> float | None:
    """Fleiss' kappa (1971) for accept and reject, with a weight for items that differ in their number of raters.

    Args:
        rated: Number of ratings (2 or more), how many of them accept, and how many items have these numbers.

    Returns:
        None without items, or where chance alone would make everybody agree.
    """
    items = sum(count for _, _, count in rated)
    ratings = sum(n * count for n, _, count in rated)
    if not items:
        return None
    accepts = sum(yes * count for _, yes, count in rated) / ratings
    observed = sum(count * (yes * (yes - 1) + (n - yes) * (n - yes - 1)) / (n * (n - 1)) for n, yes, count in rated)
    chance = accepts**2 + (1 - accepts) ** 2
    return None if chance == 1 else (observed / items - chance) / (1 - chance)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
