"""How well a policy compresses its context, from the episode alone."""

from __future__ import annotations

from ...envs.protocol.turn import SectionKind
from ..context_window import WindowPolicy
from ..episode import Episode

Ratio = tuple[float, float]
_SCORES = {"fact_recall": "fact_recall", "stale": "stale_rate", "updated": "update_rate", "precision": "precision"}
"""Scores of environments that know what a summary should hold, and what they are called here."""


def measure(episode: Episode) -> dict[str, Ratio]:
    """Numerator and denominator of each metric that the episode says something about; none without a learned window.

    `accuracy_with_summary` and `accuracy_without_summary`: share of right episodes among those with and without a
    summary. `summaries`: summaries per episode. `summary_share`: share of the sampled tokens that stand in summaries.
    `fact_recall`, `stale_rate`, `update_rate`, `precision`: means of the environment's scores `fact_recall`, `stale`,
    `updated` and `precision` over the episodes that have them.
    """
    if episode.window.get("policy") != WindowPolicy.LEARNED:
        return {}
    summaries = sum(span.kind == SectionKind.SUMMARY for segment in episode.segments for span in segment.sections)
    right = float(episode.scores.get("correct", episode.reward) >= 1.0)
    metrics = {
        "accuracy_with_summary" if summaries else "accuracy_without_summary": (right, 1.0),
        "summaries": (float(summaries), 1.0),
        "summary_share": (float(episode.section_tokens(SectionKind.SUMMARY)), float(episode.sampled_tokens())),
    }
    return metrics | {name: (episode.scores[score], 1.0) for score, name in _SCORES.items() if score in episode.scores}
