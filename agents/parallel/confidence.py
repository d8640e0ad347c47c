"""How sure a policy was of an episode, by its own log-probabilities.

Engines keep the log-probability of what was sampled and no distributions, so measures that need the whole vocabulary
(entropy, the self-certainty of arXiv 2502.18581) are out of reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...envs.protocol import SectionKind
from ..episode import Episode, Segment
from .errors import ParallelError


def answer_logprob(episode: Episode) -> float:
    """Mean log-probability of the tokens of the answer, markers included; minus infinity without an answer."""
    if episode.answer is None:
        return -math.inf
    segment = episode.segments[episode.turns[-1].segment]
    spans = [span for span in segment.sections if span.kind == SectionKind.ANSWER]
    return _mean(episode, [(segment, spans[-1].start, spans[-1].end)]) if spans else -math.inf


def episode_logprob(episode: Episode) -> float:
    """Mean log-probability of all sampled tokens; minus infinity without an answer."""
    if episode.answer is None:
        return -math.inf
    return _mean(episode, [(segment, 0, len(segment.token_ids)) for segment in episode.segments])


def _mean(episode: Episode, spans: Iterable[tuple[Segment, int, int]]) -> float:
    known = [
        segment.logprobs[i]
        for segment, start, end in spans
        for i in range(start, end)
        if segment.sampled[i] and not math.isnan(segment.logprobs[i])
    ]
    if not known:
        raise ParallelError(
            f"episode {episode.id!r} holds no log-probabilities to take a confidence from: choose another strategy, or "
            "an engine that gives them (a chat server: logprobs=True)"
        )
    return math.fsum(known) / len(known)
