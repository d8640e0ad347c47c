"""Results: the numbers of a run on a suite, all of them computed from its episodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...envs.json_schema import first_violation, published_validator
from ..episode import Episode, Status
from ..episode_store import EpisodeStore
from ..evaluation import Estimate, PairedComparison, ReportCard, make_report_card
from ..evaluation.horizon import Horizon, TaskOutcome, fit_horizon
from ..evaluation.records import EpisodeRecord
from ..evaluation.statistics import LEVEL, RESAMPLES, TaskBootstrap, compare_paired, wilson_interval
from ..text_model import Prices
from .run_files import AgentCard, RunError, RunFiles, read_json, shard_numbers, write_json
from .suite import Suite, SuiteEntry, tasks_digest, tasks_of

SCHEMA = "forethought/result/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What became of one task."""

    id: str
    right: int
    attempts: int
    sampled_tokens: float
    """Mean over the attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryResult:
    """The numbers of one entry of the suite."""

    name: str
    env: Mapping[str, Any]
    window: Mapping[str, Any]
    tasks_sha256: str
    card: ReportCard
    money: Estimate
    """Cost of an episode in the unit of the prices; no value without prices."""
    horizon: Horizon | None
    """None where tasks have no known difficulties, or all the same one."""
    tasks: Sequence[TaskResult]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "env": dict(self.env),
            "window": dict(self.window),
            "tasks_sha256": self.tasks_sha256,
            "card": self.card.to_dict(),
            "money": asdict(self.money),
            "horizon": None if self.horizon is None else self.horizon.to_dict(),
            "tasks": [[task.id, task.right, task.attempts, task.sampled_tokens] for task in self.tasks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EntryResult:
        """What `to_dict` wrote."""
        return cls(
            **{
                **data,
                "card": ReportCard.from_dict(data["card"]),
                "money": Estimate(**data["money"]),
                "horizon": None if data["horizon"] is None else Horizon.from_dict(data["horizon"]),
                "tasks": [
                    TaskResult(id=name, right=right, attempts=attempts, sampled_tokens=tokens)
                    for name, right, attempts, tokens in data["tasks"]
                ],
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The numbers of a run."""

    agent: AgentCard
    suite: Mapping[str, str]
    """`name`, `version` and `sha256`."""
    accuracy: Estimate
    """Mean of the entries' accuracies; the interval resamples the tasks of every entry."""
    sampled_tokens: float | None
    """Per episode, mean of the entries' means."""
    money: float | None
    """Per episode, likewise; None where an entry has none."""
    entries: Sequence[EntryResult]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what `result.json` holds."""
        return {
            "schema": SCHEMA,
            "agent": self.agent.to_dict(),
            "suite": dict(self.suite),
            "accuracy": asdict(self.accuracy),
            "sampled_tokens": self.sampled_tokens,
            "money": self.money,
            "entries": [entry.to_dict() for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "result") -> Result:
        """What `to_dict` wrote.

        Raises:
            RunError: the data do not fit the published schema; `where` is named.
        """
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise RunError(f"{where}: expected schema {SCHEMA!r}, found {data.get('schema')!r}")
        violation = first_violation(published_validator("result", "forethought.agents"), _without_lists(data))
        if violation is None and not all(map(_has_sound_lists, data["entries"])):
            violation = "entries: a task is not [id, right attempts, attempts, tokens], or a point of a curve is none"
        if violation is not None:
            raise RunError(f"{where}: not a result: {violation}")
        try:
            return cls(
                agent=AgentCard.from_dict(data["agent"], where),
                suite=data["suite"],
                accuracy=Estimate(**data["accuracy"]),
                sampled_tokens=data["sampled_tokens"],
                money=data["money"],
                entries=[EntryResult.from_dict(entry) for entry in data["entries"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{where}: not a result: {type(error).__name__}: {error}") from None


def read_result(files: RunFiles) -> Result:
    """The result of a run, as `result.json` says it.

    Raises:
        RunError: it is missing or damaged.
    """
    return Result.from_dict(read_json(files.result_path), str(files.result_path))


def grade_run(files: RunFiles) -> Result | None:
    """Grade a run whose shards are all there, and write `result.json`; None while one is missing.

    Raises:
        RunError, SuiteError, StoreError: the run is damaged.
    """
    suite, agent = files.suite(), files.agent()
    entries = []
    for entry in suite.entries:
        shards, count = files.shards(entry)
        done = [i for i in shard_numbers(entry, count) if i in shards and (shards[i] / "report_card.json").exists()]
        if not count or len(done) < len(shard_numbers(entry, count)):
            return None
        stores = itertools.chain.from_iterable(EpisodeStore(shards[i]) for i in done)
        window = read_json(shards[done[0]] / "evaluation.json")["window"]
        entries.append(grade_entry(suite, entry, stores, window=window, prices=agent.prices))
    result = combine(suite, agent, entries)
    write_json(files.result_path, result.to_dict())
    return result


def grade_entry(
    suite: Suite, entry: SuiteEntry, episodes: Iterable[Episode], *, window: Mapping[str, Any], prices: Prices | None
) -> EntryResult:
    """Grade the episodes of one entry, which are taken one by one and not kept."""
    env = entry.make()
    try:
        described, digest = entry.spec.describe(env), tasks_digest(tasks_of(env, entry))
    finally:
        env.close()
    gathered = _Gathered(prices)
    card = make_report_card(gathered.watch(episodes), seed=suite.seed)
    return EntryResult(
        name=entry.name,
        env=described,
        window=window,
        tasks_sha256=digest,
        card=card,
        money=gathered.money(suite.seed),
        horizon=fit_horizon(gathered.outcomes(), seed=suite.seed),
        tasks=gathered.tasks(),
    )


def combine(suite: Suite, agent: AgentCard, entries: Sequence[EntryResult]) -> Result:
    """The result of a run from those of its entries."""
    tokens = [entry.card.tokens.get("sampled", Estimate()).value for entry in entries]
    return Result(
        agent=agent,
        suite={"name": suite.name, "version": suite.version, "sha256": suite.sha256},
        accuracy=_overall(entries, suite.seed),
        sampled_tokens=_mean(tokens),
        money=_mean([entry.money.value for entry in entries]),
        entries=entries,
    )


def compare_results(first: Result, second: Result, *, seed: int = 0) -> dict[str, dict[str, PairedComparison]]:
    """Compare two runs of one suite task by task, second less first: `all` and each entry.

    Within each, `accuracy` and `sampled_tokens`. In `all` every entry counts alike, however many tasks it has.

    Raises:
        RunError: the runs answer different suites, or have no task in common.
    """
    if first.suite["sha256"] != second.suite["sha256"]:
        raise RunError(
            f"{first.agent.name!r} and {second.agent.name!r} cannot be compared: they answer different suites "
            f"({first.suite['name']} {first.suite['version']}, {second.suite['name']} {second.suite['version']})"
        )
    others = {entry.name: {task.id: task for task in entry.tasks} for entry in second.entries}
    pairs: dict[str, list[tuple[float, float, float, float]]] = {}
    for entry in first.entries:
        found = others.get(entry.name, {})
        pairs[entry.name] = [
            (a.right / a.attempts, b.right / b.attempts, a.sampled_tokens, b.sampled_tokens)
            for a in entry.tasks
            if (b := found.get(a.id)) is not None and a.attempts and b.attempts
        ]
    total = sum(map(len, pairs.values()))
    if not total:
        raise RunError(f"{first.agent.name!r} and {second.agent.name!r} have no task in common")
    used = {name: np.array(rows) for name, rows in pairs.items() if rows}
    weighted = [rows * (total / (len(used) * len(rows))) for rows in used.values()]
    compared = {"all": np.concatenate(weighted), **used}
    return {
        name: {
            "accuracy": compare_paired(rows[:, 0], rows[:, 1], seed),
            "sampled_tokens": compare_paired(rows[:, 2], rows[:, 3], seed),
        }
        for name, rows in compared.items()
    }


class _Gathered:
    """What is kept of each episode besides its record."""

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self._rows: list[tuple[str, int, float | None, bool, int, float]] = []

    def watch(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The same episodes."""
        for episode in episodes:
            if episode.status is not Status.FAULT:
                record = EpisodeRecord.of(episode)
                sampled = record.sampled_tokens
                money = episode.usage.get("cost", 0.0)
                if self._prices is not None:
                    money += self._prices.cost(record.context_tokens - sampled, sampled)
                self._rows.append(
                    (record.task_id, record.attempt, record.difficulty, record.correct, sampled, money)
                )  # fmt: skip
            yield episode

    def money(self, seed: int) -> Estimate:
        """Cost of an episode."""
        rows = sorted(self._rows, key=lambda row: row[:2])
        if not rows or (self._prices is None and not any(row[5] for row in rows)):
            return Estimate()
        return TaskBootstrap([row[0] for row in rows], seed).ratio([row[5] for row in rows])

    def outcomes(self) -> list[TaskOutcome]:
        """How often each task of known difficulty was done."""
        lengths = {row[0]: row[2] for row in self._rows}
        return [
            TaskOutcome(length, task.right, task.attempts)
            for task in self.tasks()
            if (length := lengths[task.id]) is not None
        ]

    def tasks(self) -> list[TaskResult]:
        """What became of each task, by id."""
        by_task: dict[str, list[tuple[bool, int]]] = {}
        for name, _, _, right, sampled, _ in sorted(self._rows, key=lambda row: row[:2]):
            by_task.setdefault(name, []).append((right, sampled))
        return [
            TaskResult(
                id=name,
                right=sum(right for right, _ in rows),
                attempts=len(rows),
                sampled_tokens=sum(sampled for _, sampled in rows) / len(rows),
            )
            for name, rows in by_task.items()
        ]


def _overall(entries: Sequence[EntryResult], seed: int) -> Estimate:
    """Mean of the entries' accuracies, with the tasks of each resampled among themselves."""
    rates = [np.array([t.right / t.attempts for t in entry.tasks]) for entry in entries]
    if any(not len(values) for values in rates):
        return Estimate()
    value = float(np.mean([values.mean() for values in rates]))
    if value in (0.0, 1.0):
        count = sum(map(len, rates))
        low, high = wilson_interval(value * count, count)
        return Estimate(value=value, low=low, high=high)
    rng = np.random.default_rng(seed)
    means = [[values[rng.integers(0, len(values), len(values))].mean() for values in rates] for _ in range(RESAMPLES)]
    low, high = np.quantile(np.mean(means, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=value, low=float(low), high=float(high))


def _without_lists(data: Any) -> Any:
    """The data without their long lists, on which a validator would spend most of the time that a board takes."""
    if not isinstance(data, dict) or not isinstance(data.get("entries"), list):
        return data
    entries = []
    for entry in data["entries"]:
        if isinstance(entry, dict) and isinstance(entry.get("tasks"), list):
            entry = {**entry, "tasks": []}
            horizon = entry.get("horizon")
            if isinstance(horizon, dict) and isinstance(horizon.get("curve"), list):
                entry["horizon"] = {**horizon, "curve": []}
        entries.append(entry)
    return {**data, "entries": entries}


def _has_sound_lists(entry: Mapping[str, Any]) -> bool:
    """What the schema says of the lists that `_without_lists` leaves out."""
    curve = [] if entry["horizon"] is None else entry["horizon"]["curve"]
    return all(map(_is_task, entry["tasks"])) and all(map(_is_point, curve))


def _is_task(task: Any) -> bool:
    if not isinstance(task, list) or [type(part) for part in task[:3]] != [str, int, int] or len(task) != 4:
        return False
    return 0 <= task[1] <= task[2] and task[2] >= 1 and type(task[3]) in (int, float) and task[3] >= 0


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, dict)
        and point.keys() == {"length", "success", "low", "high"}
        and all(type(value) in (int, float) for value in point.values())
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
