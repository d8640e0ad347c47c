"""From episodes to the report card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..episode import Episode, Status
from .records import EpisodeRecord
from .report_card import Calibration, DifficultyLevel, ReportCard
from .statistics import Estimate, Floats, PairedComparison, TaskBootstrap, compare_paired, pass_at_k, pass_hat_k

EASY = 1.0
"""Largest difficulty of the tasks on which overthinking is measured."""
_MOST_LEVELS = 20
_SECTIONS = ("plan", "think", "call", "summary", "answer", "other")


def make_report_card(
    episodes: Iterable[Episode],
    *,
    oracle: ReportCard | None = None,
    pass_rates: Mapping[str, float] | None = None,
    seed: int = 0,
) -> ReportCard:
    """Grade episodes, which are taken one by one and not kept.

    Args:
        episodes: The episodes of one run, for example an `EpisodeStore`.
        oracle: The card of a policy that does what a task needs and no more, for `Calibration.over_ratio`.
        pass_rates: Pass rate of each task under a reference model (see `pass_rates_of`), for
            `Calibration.spearman_failure`; the run's own by default. Tasks that it lacks are left out there.
        seed: Seed of the intervals.
    """
    records = [EpisodeRecord.of(episode) for episode in episodes]
    # In an order of its own, so that no digit depends on which episode ended first.
    records.sort(key=lambda record: (record.task_id, record.attempt))
    counted = [record for record in records if record.status is not Status.FAULT]
    statuses = Counter(str(record.status) for record in records)
    stop_reasons = Counter(record.stop_reason for record in records)
    counts = {
        "faults": len(records) - len(counted),
        "retries": sum(record.retries for record in records),
        "statuses": dict(sorted(statuses.items())),
        "stop_reasons": dict(sorted(stop_reasons.items())),
    }
    if not counted:
        return ReportCard(**counts)  # type: ignore[arg-type]
    attempts = Counter(record.task_id for record in counted)
    right = Counter(record.task_id for record in counted if record.correct)
    bootstrap = TaskBootstrap([record.task_id for record in counted], seed)
    by_task = TaskBootstrap(list(attempts), seed)

    def over_tasks(estimator: Callable[[int, int, int], float], k: int) -> Estimate:
        enough = [n >= k for n in attempts.values()]
        values = [estimator(n, right[task], k) if n >= k else 0.0 for task, n in attempts.items()]
        return by_task.proportion(values, enough)

    def mean(value: Callable[[EpisodeRecord], float]) -> Estimate:
        return bootstrap.ratio(_column(counted, value))

    ks = [k for k in (2**i for i in range(32)) if k <= max(attempts.values())]
    names = sorted({name for record in counted for name in record.scores})
    tokens = {
        "sampled": mean(lambda r: r.sampled_tokens),
        "context": mean(lambda r: r.context_tokens),
        "critical_path": mean(lambda r: r.critical_tokens),
    }
    tokens |= {kind: mean(lambda r, kind=kind: r.section_tokens[kind]) for kind in _SECTIONS}  # type: ignore[misc]
    failed = _column(counted, lambda r: r.failed_calls)
    rates = pass_rates if pass_rates is not None else {task: right[task] / n for task, n in attempts.items()}
    return ReportCard(
        tasks=len(attempts),
        episodes=len(counted),
        attempts=max(attempts.values()),
        **counts,  # type: ignore[arg-type]
        accuracy=over_tasks(pass_at_k, 1),
        reward=mean(lambda r: r.reward),
        scores={
            name: bootstrap.ratio(
                _column(counted, lambda r, name=name: r.scores.get(name, 0.0)),  # type: ignore[misc]
                _column(counted, lambda r, name=name: name in r.scores),  # type: ignore[misc]
            )
            for name in names
        },
        pass_at={k: over_tasks(pass_at_k, k) for k in ks},
        pass_hat={k: over_tasks(pass_hat_k, k) for k in ks},
        tokens=tokens,
        traits=_traits(counted, bootstrap),
        calibration=_calibrate(counted, rates, oracle, bootstrap, seed),
        by_difficulty=_levels(counted, bootstrap),
        finish_rate=bootstrap.proportion(_column(counted, lambda r: r.status is Status.COMPLETED)),
        format_error_rate=bootstrap.proportion(
            _column(counted, lambda r: r.format_errors), _column(counted, lambda r: r.turns)
        ),
        turns=mean(lambda r: r.turns),
        tool_calls=mean(lambda r: r.tool_calls),
        failed_calls=bootstrap.ratio(failed),
        plan_versions=mean(lambda r: r.plan_versions),
        seconds=mean(lambda r: r.seconds),
        repeated_failure_rate=bootstrap.proportion(_column(counted, lambda r: r.repeated_failed_calls), failed),
    )


def pass_rates_of(episodes: Iterable[Episode]) -> dict[str, float]:
    """Share of right episodes of each task, faults left out: the empirical difficulty is 1 less it."""
    right: dict[str, list[bool]] = {}
    for episode in episodes:
        if episode.status is not Status.FAULT:
            record = EpisodeRecord.of(episode)
            right.setdefault(record.task_id, []).append(record.correct)
    return {task: sum(values) / len(values) for task, values in right.items()}


def compare_runs(first: Iterable[Episode], second: Iterable[Episode], *, seed: int = 0) -> dict[str, PairedComparison]:
    """Compare two runs on the tasks that both have: `accuracy` and `sampled_tokens`, second less first.

    Raises:
        ValueError: the runs have no task in common.
    """
    runs = []
    for episodes in (first, second):
        tasks: dict[str, list[tuple[float, float]]] = {}
        for episode in episodes:
            if episode.status is not Status.FAULT:
                record = EpisodeRecord.of(episode)
                tasks.setdefault(record.task_id, []).append((record.correct, record.sampled_tokens))
        runs.append({task: np.mean(values, axis=0) for task, values in tasks.items()})
    common = sorted(runs[0].keys() & runs[1].keys())
    a, b = (np.array([run[task] for task in common]).reshape(-1, 2) for run in runs)
    return {name: compare_paired(a[:, i], b[:, i], seed) for i, name in enumerate(("accuracy", "sampled_tokens"))}


def _column(records: Sequence[EpisodeRecord], value: Callable[[EpisodeRecord], float]) -> Floats:
    return np.array([value(record) for record in records], np.float64)


def _traits(records: Sequence[EpisodeRecord], bootstrap: TaskBootstrap) -> dict[str, dict[str, Estimate]]:
    """Of each metric of each trait the ratio of its sums."""
    names = {(trait, name): None for record in records for trait, metrics in record.traits.items() for name in metrics}
    estimates: dict[str, dict[str, Estimate]] = {}
    for trait, name in sorted(names):
        ratios = [record.traits.get(trait, {}).get(name, (0.0, 0.0)) for record in records]
        tops, bottoms = zip(*ratios, strict=True)
        estimates.setdefault(trait, {})[name] = bootstrap.ratio(tops, bottoms)
    return estimates


def _calibrate(
    records: Sequence[EpisodeRecord],
    pass_rates: Mapping[str, float],
    oracle: ReportCard | None,
    bootstrap: TaskBootstrap,
    seed: int,
) -> Calibration:
    rated = [record for record in records if record.task_id in pass_rates]
    failure = (
        TaskBootstrap([record.task_id for record in rated], seed).spearman(
            _column(rated, lambda r: r.sampled_tokens), _column(rated, lambda r: 1 - pass_rates[r.task_id])
        )
        if rated
        else Estimate()
    )
    known = [record for record in records if record.difficulty is not None]
    if not known:
        return Calibration(spearman_failure=failure)
    if len(known) < len(records):
        bootstrap = TaskBootstrap([record.task_id for record in known], seed)
    difficulty = _column(known, _difficulty)
    tokens = _column(known, lambda r: r.sampled_tokens)
    slope, r_squared = bootstrap.line(difficulty, tokens)
    easy = difficulty <= EASY
    needed = _fewest_right(known) if oracle is None else _spent(oracle)
    measured = easy & np.array([at in needed for at in difficulty])
    shortest = np.array([needed.get(at, 1) for at in difficulty])
    return Calibration(
        spearman_difficulty=bootstrap.spearman(tokens, difficulty),
        spearman_failure=failure,
        slope=slope,
        r_squared=r_squared,
        think_over_ratio=bootstrap.ratio(
            easy * np.maximum(_column(known, lambda r: r.think_tokens), 1.0) / np.maximum(difficulty, 1.0), easy
        ),
        over_ratio=bootstrap.ratio(measured * tokens / shortest, measured),
    )


def _fewest_right(records: Sequence[EpisodeRecord]) -> dict[float, float]:
    """Fewest sampled tokens of a right episode, by difficulty."""
    fewest: dict[float, float] = {}
    for record in records:
        if record.correct:
            at = _difficulty(record)
            fewest[at] = min(fewest.get(at, record.sampled_tokens), record.sampled_tokens)
    return fewest


def _spent(card: ReportCard) -> dict[float, float]:
    """Mean sampled tokens by difficulty."""
    levels = card.by_difficulty
    return {at.difficulty: at.sampled_tokens.value for at in levels if at.sampled_tokens.value is not None}


def _levels(records: Sequence[EpisodeRecord], bootstrap: TaskBootstrap) -> tuple[DifficultyLevel, ...]:
    """One level for each difficulty, or for each tenth of the episodes where there are many difficulties."""
    known = np.array([record.difficulty is not None for record in records])
    if not known.any():
        return ()
    difficulty = _column(records, lambda r: -np.inf if r.difficulty is None else r.difficulty)
    distinct = np.unique(difficulty[known])
    if len(distinct) > _MOST_LEVELS:
        upper = np.unique(np.quantile(difficulty[known], np.arange(1, 11) / 10, method="inverted_cdf"))
    else:
        upper = distinct
    numbers = np.searchsorted(upper, difficulty)
    right = _column(records, lambda r: r.correct)
    tokens = _column(records, lambda r: r.sampled_tokens)
    think = _column(records, lambda r: r.think_tokens)
    levels = []
    for number in range(len(upper)):
        here = known & (numbers == number)
        sampled_when_right = tokens[here & (right > 0)]
        levels.append(
            DifficultyLevel(
                difficulty=float(difficulty[here].mean()),
                tasks=len({record.task_id for record, inside in zip(records, here, strict=True) if inside}),
                episodes=int(here.sum()),
                accuracy=bootstrap.proportion(here * right, here),
                sampled_tokens=bootstrap.ratio(here * tokens, here),
                think_tokens=bootstrap.ratio(here * think, here),
                fewest_right=int(sampled_when_right.min()) if len(sampled_when_right) else None,
            )
        )
    return tuple(levels)


def _difficulty(record: EpisodeRecord) -> float:
    assert record.difficulty is not None
    return record.difficulty
