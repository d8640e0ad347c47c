"""Abstraction: how an episode's work was split, read off the tree of its contexts. No judge is asked."""

from __future__ import annotations

import json
from collections import defaultdict

from ...envs.sub_models import ASK
from ...envs.tools import CallResult
from ..episode import Episode, Status, Turn
from ..tree import critical_path, unused_sub_calls

Ratio = tuple[float, float]


def measure(episode: Episode) -> dict[str, Ratio]:
    """Numerator and denominator of each measure in one episode; over many, the measure is the ratio of their sums.

    `sub_calls`: calls to sub-models, mean over episodes.
    `parallel_ratio`: sub-calls made in one turn with another sub-call, of all sub-calls.
    `failed_sub_calls`: sub-calls without an answer, of all sub-calls.
    `unused_results`: answered sub-calls whose answer no later turn of the policy that asked repeats (see
    `unused_sub_calls`), of the answered ones.
    `duplicate_calls`: calls that were made before by the same policy, with the same arguments and not in another
    sub-task, of all calls; tools and sub-models alike.
    `critical_share`: sampled tokens on the critical path, of all sampled tokens (see `critical_path`).

    Where the metadata of the task says more:
    `parallel_ratio_independent`, `parallel_ratio_chained`: calls to tools and sub-models made in one turn with another
    call, of all that were made for the task itself (not for a sub-task), by its `structure`. What could be split and
    was worked serially counts, so it is not the share of sub-calls.
    `critical_over_oracle`: sampled tokens on the critical path of right episodes, over `oracle_critical_tokens`.
    """
    if episode.status is Status.FAULT:
        return {}
    turns: dict[int, list[Turn]] = defaultdict(list)
    """Of the task and of each sub-task, through all their contexts."""
    for turn in episode.turns:
        turns[episode.task_of(turn.segment)].append(turn)
    calls = {task: [call for turn in those for call in turn.calls] for task, those in turns.items()}
    sub_calls = [call for those in calls.values() for call in those if call.name == ASK]
    path = critical_path(episode)
    metrics: dict[str, Ratio] = {
        "sub_calls": (len(sub_calls), 1),
        "duplicate_calls": (sum(map(_duplicates, calls.values())), sum(map(len, calls.values()))),
        "critical_share": (path.tokens, path.total),
    }
    if sub_calls:
        together = sum(_together([call for call in turn.calls if call.name == ASK]) for turn in episode.turns)
        answered = sum(call.error is None for call in sub_calls)
        metrics["parallel_ratio"] = (together, len(sub_calls))
        metrics["failed_sub_calls"] = (len(sub_calls) - answered, len(sub_calls))
        metrics["unused_results"] = (len(unused_sub_calls(episode)), answered)
    metadata = episode.task.get("metadata") or {}
    if (structure := metadata.get("structure")) in ("independent", "chained"):
        together = sum(_together(turn.calls) for turn in turns[0])
        metrics[f"parallel_ratio_{structure}"] = (together, len(calls.get(0, ())))
    oracle = metadata.get("oracle_critical_tokens")
    if oracle is not None and episode.scores.get("correct", 0.0) >= 1.0:
        metrics["critical_over_oracle"] = (path.tokens, oracle)
    return metrics


def _duplicates(calls: list[CallResult]) -> int:
    return len(calls) - len({(call.name, json.dumps(call.arguments, sort_keys=True)) for call in calls})


def _together(calls: list[CallResult]) -> int:
    """How many of the calls of one turn had company."""
    return len(calls) if len(calls) > 1 else 0
