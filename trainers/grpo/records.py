"""What every rank knows of every episode of the batch, and the metrics made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ...agents.episode import Episode, SegmentKind, Status
from ...agents.tree import sub_calls
from .rows import trained_segments


@dataclass(frozen=True, slots=True)
class Record:
    """The numbers of one episode that leave its rank."""

    reward: float
    """The reward that is trained on (shaped, if there is a shaping hook)."""
    raw_reward: float
    status: Status
    sampled_tokens: int
    trained_tokens: int
    """Sampled tokens of the segments in the loss; all of them but in an ablation."""
    trained_segments: int
    all_tokens: int
    turns: int
    segments: int
    summaries: int
    """Contexts that began with a summary."""
    retries: int
    calls: int
    failed_calls: int
    sub_calls: int
    scores: dict[str, float]

    @classmethod
    def of(cls, episode: Episode, reward: float, credit: str = "episode") -> Record:
        """Summarise `episode`, trained on `reward` with the `credit` of `EpisodeGRPOConfig`."""
        calls = [call for turn in episode.turns for call in turn.calls]
        trained = trained_segments(episode, credit)
        return cls(
            reward=reward,
            raw_reward=episode.reward,
            status=episode.status,
            sampled_tokens=episode.sampled_tokens(),
            trained_tokens=sum(sum(episode.segments[index].sampled) for index in trained),
            trained_segments=len(trained),
            all_tokens=sum(len(segment.token_ids) for segment in episode.segments),
            turns=len(episode.turns),
            segments=len(episode.segments),
            summaries=sum(segment.kind is SegmentKind.AFTER_SUMMARY for segment in episode.segments),
            retries=episode.retries,
            calls=len(calls),
            failed_calls=sum(call.error is not None for call in calls),
            sub_calls=len(sub_calls(episode)),
            scores=dict(episode.scores),
        )

    @property
    def counted(self) -> bool:
        """Whether the episode says something about the policy: it is not a fault."""
        return self.status is not Status.FAULT

    @property
    def succeeded(self) -> bool:
        """The score `correct` is 1 (the reward is, where the environment has no such score)."""
        return self.scores.get("correct", self.raw_reward) >= 1.0


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
        "rollout/segments_max": float(max(record.segments for record in counted)),
        "rollout/sub_calls_mean": fmean(record.sub_calls for record in counted),
        "rollout/p_summary": fmean(record.summaries > 0 for record in counted),
        "tools/call_frequency": calls / len(counted),
        "tools/failure_frequency": sum(record.failed_calls for record in counted) / calls if calls else 0.0,
    }
    if summarised := [record for record in counted if record.summaries]:
        metrics["rollout/p_success_given_summary"] = fmean(record.succeeded for record in summarised)
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
