"""Metrics of the planning traits: each a ratio that is summed over episodes."""

from __future__ import annotations

from collections.abc import Callable

from ..episode import Episode

Ratio = tuple[float, float]
"""Numerator and denominator of one episode; the metric of a run is the ratio of the sums."""

TRAITS: dict[str, Callable[[Episode], dict[str, Ratio]]] = {}
"""By trait: the metrics of one episode. One that says nothing about the episode is left out."""


def measure_traits(episode: Episode) -> dict[str, dict[str, Ratio]]:
    """Every metric of every trait that says something about the episode."""
    return {trait: metrics for trait, measure in TRAITS.items() if (metrics := measure(episode))}


MEANINGS: dict[tuple[str, str], str] = {}
"""By trait and metric: what it says, for people."""
