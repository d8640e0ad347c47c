"""Metrics of the planning traits: each a ratio that is summed over episodes."""

from __future__ import annotations

from collections.abc import Callable

from ..episode import Episode
from . import abstraction, compression, strategy

Ratio = tuple[float, float]
"""Numerator and denominator of one episode; the metric of a run is the ratio of the sums."""

TRAITS: dict[str, Callable[[Episode], dict[str, Ratio]]] = {
    "strategy": strategy.measure,
    "abstraction": abstraction.measure,
    "compression": compression.measure,
}
"""By trait: the metrics of one episode. One that says nothing about the episode is left out."""


def measure_traits(episode: Episode) -> dict[str, dict[str, Ratio]]:
    """Every metric of every trait that says something about the episode."""
    return {trait: metrics for trait, measure in TRAITS.items() if (metrics := measure(episode))}


MEANINGS: dict[tuple[str, str], str] = {
    ("strategy", "plan_validity"): "Share of plans that are one of the ways the task allows.",
    ("strategy", "adherence"): "Share of the steps that were due that calls carried out, in order.",
    ("strategy", "adherence_by_step"): "The same, where calls name the step that they serve.",
    ("strategy", "replan_precision"): "Share of re-plans that follow a contradiction.",
    ("strategy", "replan_recall"): "Share of contradictions that a re-plan follows in the next turn.",
    ("strategy", "detection_delay"): "Turns from a contradiction to the re-plan; 1 is the best.",
    ("strategy", "recovery"): "Share of right answers where the first route is broken.",
    ("strategy", "repeated_failures"): "Share of contradicted calls that had been contradicted before.",
    ("strategy", "call_regret"): "Calls beyond those of the best policy, in right episodes.",
    ("strategy", "replans_unbroken"): "Re-plans per episode where no route is broken: needless ones.",
    ("strategy", "loop_rate"): "Share of episodes in which one call gave one answer three times.",
    ("abstraction", "sub_calls"): "Sub-tasks handed out per episode.",
    ("abstraction", "critical_share"): "Share of the sampled tokens on the longest path.",
    ("abstraction", "duplicate_calls"): "Share of calls that the same context had made before.",
    ("abstraction", "parallel_ratio"): "Share of sub-calls made in one turn with another one.",
    ("abstraction", "failed_sub_calls"): "Share of sub-calls without an answer.",
    ("abstraction", "unused_results"): "Share of sub-answers that no later turn repeats, word for word.",
    ("abstraction", "parallel_ratio_independent"): "Share of calls made together where the parts are independent.",
    ("abstraction", "parallel_ratio_chained"): "Share of calls made together where each needs the one before.",
    ("abstraction", "critical_over_oracle"): "Tokens on the longest path over the oracle's, in right episodes.",
    ("compression", "accuracy_with_summary"): "Accuracy of the episodes with a summary.",
    ("compression", "accuracy_without_summary"): "Accuracy of the episodes without one.",
    ("compression", "summaries"): "Summaries per episode.",
    ("compression", "summary_share"): "Share of the sampled tokens in summaries.",
    ("compression", "fact_recall"): "Share of the facts that the answer needs that were still known.",
    ("compression", "stale_rate"): "Share of the kept facts about what matters that were out of date.",
    ("compression", "update_rate"): "Share of the overwritten facts that were kept that are current.",
    ("compression", "precision"): "Share of the kept facts that matter.",
}
"""By trait and metric: what it says, for people."""
