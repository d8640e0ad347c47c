"""The small record that evaluation keeps of each episode; the episode's tokens are not kept."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from ...envs.protocol.turn import SectionKind
from ..episode import Episode, Status
from ..tree import critical_path
from .traits import Ratio, measure_traits

_MARKERS = 2
"""Marker tokens of a section: exact for models that have the markers as tokens of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """What the report card needs to know of one episode."""

    task_id: str
    attempt: int
    difficulty: float | None
    status: Status
    stop_reason: str
    retries: int
    correct: bool
    """The score `correct` is 1 (the reward is, where the environment has no such score)."""
    reward: float
    scores: dict[str, float]
    sampled_tokens: int
    context_tokens: int
    """Tokens that the policy read, summed over its turns, and those it sampled."""
    critical_tokens: int
    """Sampled tokens on the longest path: of sub-calls made in one turn only the longest counts (see
    `forethought.agents.tree.critical_path`)."""
    section_tokens: dict[str, int]
    """Sampled tokens of each kind of section, markers included; `other` is what no whole section holds."""
    think_tokens: int
    """Tokens inside think sections, their two markers excluded."""
    turns: int
    format_errors: int
    tool_calls: int
    failed_calls: int
    repeated_failed_calls: int
    """Failed calls that had already failed in the same episode, with the same arguments."""
    plan_versions: int
    seconds: float
    """Wall time of the episode, waiting for the engine included."""
    traits: dict[str, dict[str, Ratio]]
    """Metrics by trait."""

    @classmethod
    def of(cls, episode: Episode) -> EpisodeRecord:
        """Summarise one episode."""
        sampled = episode.sampled_tokens()
        sections = {kind.value: episode.section_tokens(kind) for kind in SectionKind}
        sections["other"] = sampled - sum(sections.values())
        spans = [span for segment in episode.segments for span in segment.sections]
        calls = [call for turn in episode.turns for call in turn.calls]
        failed = Counter(
            (call.name, json.dumps(call.arguments, sort_keys=True)) for call in calls if call.error is not None
        )
        difficulty = episode.task["difficulty"]
        return cls(
            task_id=episode.task_id,
            attempt=episode.attempt,
            difficulty=None if difficulty is None else float(difficulty),
            status=episode.status,
            stop_reason=episode.stop_reason,
            retries=episode.retries,
            correct=episode.scores.get("correct", episode.reward) >= 1.0,
            reward=episode.reward,
            scores=dict(episode.scores),
            sampled_tokens=sampled,
            context_tokens=int(episode.usage.get("context_tokens", 0)),
            critical_tokens=critical_path(episode).tokens,
            section_tokens=sections,
            think_tokens=sum(max(0, s.end - s.start - _MARKERS) for s in spans if s.kind == SectionKind.THINK),
            turns=len(episode.turns),
            format_errors=sum(turn.error is not None for turn in episode.turns),
            tool_calls=len(calls),
            failed_calls=failed.total(),
            repeated_failed_calls=failed.total() - len(failed),
            plan_versions=sum(not episode.depth_of(episode.turns[plan.turn].segment) for plan in episode.plans),
            seconds=episode.usage.get("seconds", 0.0),
            traits=measure_traits(episode),
        )
