"""Which sections the tokens in the loss and the weight of their gradient belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...agents.episode import Episode
from ...envs.protocol.turn import SectionKind
from .rows import Row

OTHER = "other"
"""Trained tokens outside every section: end-of-turn tokens, malformed turns."""


class SectionShares:
    """Sums over trained tokens: how many, and their |coefficient|, by kind of section.

    A policy that is to learn to summarise needs gradient on its summaries. Under 15 % of the weight is little (FoldAct,
    arXiv 2512.22733, measures about 10 %); 0 means that they are not trained.
    """

    def __init__(self) -> None:
        self.tokens: defaultdict[str, float] = defaultdict(float)
        self.weight: defaultdict[str, float] = defaultdict(float)

    def note(self, rows: Iterable[Row], episode: Episode) -> None:
        """Note the rows of an episode that is in the loss."""
        for row in rows:
            first = len(row.prompt_ids)
            left = _inside(row, slice(None))
            for span in episode.segments[row.segment].sections:
                inside = _inside(row, slice(max(span.start - first, 0), max(span.end - first, 0)))
                self._add(span.kind, *inside)
                left = left[0] - inside[0], left[1] - inside[1]
            self._add(OTHER, left[0], left[1] if left[0] else 0.0)

    def _add(self, kind: str, tokens: float, weight: float) -> None:
        self.tokens[kind] += tokens
        self.weight[kind] += weight

    def __iadd__(self, other: SectionShares) -> SectionShares:
        """Add the sums of another rank."""
        for kind in other.tokens:
            self._add(kind, other.tokens[kind], other.weight[kind])
        return self

    def metrics(self) -> dict[str, float]:
        """Shares of tokens and of gradient weight by kind of section; empty where there is nothing to share."""
        metrics: dict[str, float] = {}
        for name, sums in (("section_tokens", self.tokens), ("section_weight", self.weight)):
            total = sum(sums.values())
            if total:
                metrics |= {f"{name}/{kind}": sums[kind] / total for kind in [*SectionKind, OTHER]}
        return metrics


def _inside(row: Row, place: slice) -> tuple[int, float]:
    """Trained tokens of a stretch of a row's completion, and their weight."""
    mask = row.mask[place]
    tokens = sum(mask)
    if not row.section_coefficients:
        return tokens, tokens * abs(row.coefficient)
    extra = row.section_coefficients[place]
    return tokens, sum(abs(row.coefficient + more) for more, sampled in zip(extra, mask, strict=True) if sampled)
