"""What every rank knows of every episode of the batch, and the metrics made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ...agents.episode import Episode, Status


@dataclass(frozen=True, slots=True)
class Record:
    """The numbers of one episode that leave its rank."""

    reward: float
    """The reward that is trained on (shaped, if there is a shaping hook)."""
    raw_reward: float
    status: Status
    sampled_tokens: int
    all_tokens: int
    turns: int
    segments: int
    retries: int
    calls: int
    failed_calls: int
    scores: dict[str, float]

    @classmethod
    def of(cls, episode: Episode, reward: float) -> Record:
        """Summarise `episode`, trained on `reward`."""
        calls = [call for turn in episode.turns for call in turn.calls]
        return cls(
            reward=reward,
            raw_reward=episode.reward,
            status=episode.status,
            sampled_tokens=episode.sampled_tokens(),
            all_tokens=sum(len(segment.token_ids) for segment in episode.segments),
            turns=len(episode.turns),
            segments=len(episode.segments),
            retries=episode.retries,
            calls=len(calls),
            failed_calls=sum(call.error is not None for call in calls),
            scores=dict(episode.scores),
        )

    @property
    def counted(self) -> bool:
        """Whether the episode says something about the policy: it is not a fault."""
        return self.status is not Status.FAULT


def rollout_metrics(records: Sequence[Record], *, shaped: bool) -> dict[str, float]:
    """Metrics of one batch of episodes, under TRL's names where TRL has the metric; lengths are sampled tokens.

    Faults are counted (`rollout/faults`) and enter nothing else. A metric without any episode to speak of is absent.
    """
    counted = [record for record in records if record.counted]
    metrics = {
        "rollout/faults": float(len(records) - len(counted)),
        "rollout/retries": float(sum(record.retries for record in records)),
    }
    if not counted:
        return metrics
    finished = [record for record in counted if record.status is Status.COMPLETED]
    lengths = [record.sampled_tokens for record in counted]
    calls = sum(record.calls for record in counted)
    metrics |= {
        "completions/mean_length": fmean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": 1.0 - len(finished) / len(counted),
        "rollout/finish_rate": len(finished) / len(counted),
        "rollout/turns_mean": fmean(record.turns for record in counted),
        "rollout/turns_max": float(max(record.turns for record in counted)),
        "rollout/segments_mean": fmean(record.segments for record in counted),
        "tools/call_frequency": calls / len(counted),
        "tools/failure_frequency": sum(record.failed_calls for record in counted) / calls if calls else 0.0,
    }
    if finished:
        lengths = [record.sampled_tokens for record in finished]
        metrics |= {
            "completions/mean_terminated_length": fmean(lengths),
            "completions/min_terminated_length": float(min(lengths)),
            "completions/max_terminated_length": float(max(lengths)),
        }
    columns = {
        name: [record.scores[name] for record in counted if name in record.scores]
        for name in sorted({name for record in counted for name in record.scores})
    }
    if shaped:
        columns["unshaped"] = [record.raw_reward for record in counted]
    for name, values in columns.items():
        metrics[f"rewards/{name}/mean"] = fmean(values)
        metrics[f"rewards/{name}/std"] = stdev(values) if len(values) > 1 else 0.0
    return metrics
