"""The report card: what a model's episodes say about it, without a judge model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .statistics import Estimate

SCHEMA = "forethought/report-card/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Whether tokens are spent in proportion to difficulty. Tokens are sampled tokens; one point is one episode."""

    spearman_difficulty: Estimate = field(default_factory=Estimate)
    """Spearman's rho of tokens and the task's known difficulty."""
    spearman_failure: Estimate = field(default_factory=Estimate)
    """Spearman's rho of tokens and 1 - pass rate of the task: the model's own pass rate in this run, unless the caller
    gave those of a reference model. A model's own rate is not independent of its tokens: read it with care."""
    slope: Estimate = field(default_factory=Estimate)
    """Tokens per unit of difficulty: slope of the least-squares line."""
    r_squared: Estimate = field(default_factory=Estimate)
    """Share of the variance of tokens that this line explains."""
    think_over_ratio: Estimate = field(default_factory=Estimate)
    """On easy tasks (difficulty <= 1): mean over episodes of `max(think tokens, 1) / max(difficulty, 1)`, markers
    excluded. Where a unit of difficulty takes one token of thought (Pointer-v0) 1 is what the task needs; elsewhere the
    ratio compares models, no more."""
    over_ratio: Estimate = field(default_factory=Estimate)
    """On easy tasks (difficulty <= 1): mean over episodes of sampled tokens over those that the oracle spends at that
    difficulty. Without an oracle's card: over the fewest with which any episode of this run was right there, which a
    lucky short guess raises and a model that always rambles lowers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyLevel:
    """The episodes at one difficulty."""

    difficulty: float
    """The difficulty, or the mean of the tenth of the tasks where there are more than 20 different ones."""
    tasks: int
    episodes: int
    accuracy: Estimate
    sampled_tokens: Estimate
    think_tokens: Estimate
    """Markers excluded."""
    fewest_right: int | None
    """Fewest sampled tokens of an episode that was right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCard:
    """A run in numbers. Faults are counted and enter nothing else; means are over episodes, intervals over tasks."""

    tasks: int = 0
    """Tasks with at least one episode that is not a fault."""
    episodes: int = 0
    """Episodes that are not faults."""
    attempts: int = 0
    """Most episodes of one task."""
    faults: int = 0
    """Episodes that the infrastructure ended for good."""
    retries: int = 0
    """Attempts that it ended and that were begun again."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    stop_reasons: Mapping[str, int] = field(default_factory=dict)
    accuracy: Estimate = field(default_factory=Estimate)
    """Share of attempts that were right, mean over tasks: pass@1."""
    reward: Estimate = field(default_factory=Estimate)
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    """Mean of each named score."""
    pass_at: Mapping[int, Estimate] = field(default_factory=dict)
    """At least one of k attempts right, for k = 1, 2, 4 ... attempts; over the tasks with k attempts."""
    pass_hat: Mapping[int, Estimate] = field(default_factory=dict)
    """All of k attempts right, for the same k."""
    tokens: Mapping[str, Estimate] = field(default_factory=dict)
    """Means per episode: `sampled`, `context`, `critical_path`, and sampled tokens by section (`plan`, `think`, `call`,
    `summary`, `answer`, markers included, and `other`)."""
    calibration: Calibration = field(default_factory=Calibration)
    traits: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Metrics by trait (`strategy`, `abstraction`, `compression`), where the episodes say something about it."""
    by_difficulty: tuple[DifficultyLevel, ...] = ()
    finish_rate: Estimate = field(default_factory=Estimate)
    """Share of episodes that the policy ended itself."""
    format_error_rate: Estimate = field(default_factory=Estimate)
    """Share of turns that were malformed."""
    turns: Estimate = field(default_factory=Estimate)
    """A mean per episode, like the five below."""
    tool_calls: Estimate = field(default_factory=Estimate)
    failed_calls: Estimate = field(default_factory=Estimate)
    plan_versions: Estimate = field(default_factory=Estimate)
    seconds: Estimate = field(default_factory=Estimate)
    """Wall time, waiting for the engine included."""
    repeated_failure_rate: Estimate = field(default_factory=Estimate)
    """Share of failed calls that had already failed, with the same arguments, in the same episode."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, keys always in the same order."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReportCard:
        """The card that `to_dict` wrote.

        Raises:
            ValueError: the data were written with another schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(
                f"not a report card of this version: expected schema {SCHEMA!r}, found {data.get('schema')!r}"
            )
        fields: dict[str, Any] = {name: value for name, value in data.items() if name != "schema"}
        for name in _ESTIMATES:
            fields[name] = Estimate(**fields[name])
        for name in ("scores", "tokens"):
            fields[name] = {key: Estimate(**value) for key, value in fields[name].items()}
        for name in ("pass_at", "pass_hat"):
            fields[name] = {int(key): Estimate(**value) for key, value in fields[name].items()}
        fields["traits"] = {
            trait: {name: Estimate(**value) for name, value in metrics.items()}
            for trait, metrics in fields["traits"].items()
        }
        fields["calibration"] = Calibration(**{k: Estimate(**v) for k, v in fields["calibration"].items()})
        levels: list[dict[str, Any]] = [
            {key: Estimate(**value) if isinstance(value, dict) else value for key, value in level.items()}
            for level in fields["by_difficulty"]
        ]
        fields["by_difficulty"] = tuple(DifficultyLevel(**level) for level in levels)
        return cls(**fields)


_ESTIMATES = (
    "accuracy",
    "reward",
    "finish_rate",
    "format_error_rate",
    "turns",
    "tool_calls",
    "failed_calls",
    "plan_versions",
    "seconds",
    "repeated_failure_rate",
)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
