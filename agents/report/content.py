"""What a report says, as plain data: whoever ran something fills it in, the page and the terminal only show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..episode import Episode
from ..evaluation import EpisodeRecord, PairedComparison, ReportCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A threshold that was set before the run, and what became of it."""

    name: str
    target: str
    value: str
    met: bool | None
    """None when it could not be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A quantity of the training history that is drawn over the steps, one line a run."""

    title: str
    key: str
    """Its name in the history; runs that never logged it are left out."""
    percent: bool = False
    """Whether it is a share between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEpisode:
    """An episode that is shown as text."""

    run: str
    task_id: str
    prompt: str
    turns: Sequence[tuple[str, str]]
    """What the policy wrote and what the environment answered, turn by turn."""
    expected: str | None
    correct: bool
    difficulty: float | None
    sampled_tokens: int

    @classmethod
    def of(cls, episode: Episode, run: str) -> SampleEpisode:
        """The text of an episode of the run named `run`."""
        record = EpisodeRecord.of(episode)
        return cls(
            run=run,
            task_id=episode.task_id,
            prompt=episode.task["prompt"],
            turns=[(turn.text, turn.observation) for turn in episode.turns],
            expected=episode.task["answer"],
            correct=record.correct,
            difficulty=record.difficulty,
            sampled_tokens=record.sampled_tokens,
        )


TRAINING_CURVES = (
    Curve(title="Reward", key="reward"),
    Curve(title="Accuracy", key="rewards/correct/mean", percent=True),
    Curve(title="Sampled tokens per episode", key="completions/mean_length"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report.

    Runs keep their order and, by their names, their colours throughout; the first two are before and after.
    """

    title: str
    summary: str = ""
    """A sentence or two under the title."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was run: recipe, date, versions, machine."""
    commands: Sequence[str] = ()
    """What a reader types to get the same."""
    runs: Mapping[str, ReportCard] = field(default_factory=dict)
    oracle: ReportCard | None = None
    """The card of a policy that does what the task needs and no more."""
    comparisons: Mapping[str, Mapping[str, PairedComparison]] = field(default_factory=dict)
    """By the name of the comparison ("SFT to after RL"): what `compare_runs` returns."""
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By run: the trainer's log, `{"step": 10, "reward": 0.5, ...}` each."""
    curves: Sequence[Curve] = TRAINING_CURVES
    targets: Sequence[Target] = ()
    samples: Sequence[SampleEpisode] = ()
    notes: Sequence[str] = ()
    """What a reader must know to judge the numbers, a paragraph each."""

    def names(self) -> list[str]:
        """Every run that is shown anywhere, in order."""
        return list(dict.fromkeys([*self.runs, *self.histories]))
