"""Verification: everything that a run claims, computed again from its episodes, which are played again one by one.

What this cannot see is what no record shows: whether the named model sampled the turns, and whether the whole run was
made several times and the best one kept.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..context_format import ContextFormat
from ..env_spec import EnvSpecError
from ..episode import Episode
from ..evaluation import make_report_card
from .result import EntryResult, combine, grade_entry
from .run_files import AgentCard, RunError, RunFiles, read_json, shard_numbers
from .shard_check import ShardCheck
from .suite import Suite, SuiteEntry, SuiteError, tasks_of

_TOLERANCE = 1e-6
"""Relative: other builds of numpy add up in another order."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}"


@dataclass(slots=True, kw_only=True)
class Verification:
    """What a verification found."""

    agent: str = ""
    suite: str = ""
    """Name, version and hash."""
    findings: list[Finding] = field(default_factory=list)
    episodes: int = 0
    """Played again."""
    by_token: int = 0
    """Of these, token by token; the others as texts."""
    faults: int = 0
    """Rows of attempts that the infrastructure ended and that were made again."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_run(
    folder: str | Path, *, suite: Suite | None = None, model_format: ContextFormat | None = None
) -> Verification:
    """Play every episode of a run again without its model, and compute all its numbers again.

    Args:
        folder: The run.
        suite: The suite that it must answer. Without it the run's own copy is believed, which says no more than that
            the run is in itself consistent; and its environments are made, so only verify runs that you trust so.
        model_format: The format of the agent's model (see `format_for`), for runs of models with a tokenizer of
            transformers; without it their episodes are replayed as texts.

    Raises:
        InfrastructureFault: an environment needs something that is not there (a server); nothing is known then.
    """
    return _Verifier(RunFiles(folder), model_format).run(suite)


class _Verifier:
    def __init__(self, files: RunFiles, model_format: ContextFormat | None) -> None:
        self._files = files
        self._model_format = model_format
        self._report = Verification()
        self._evaluations: dict[str, dict[str, Any]] = {}
        """Of each entry what its first shard says about the evaluation."""

    def run(self, suite: Suite | None) -> Verification:
        report, files = self._report, self._files
        try:
            claimed = files.suite()
            report.suite = f"{claimed.name} {claimed.version} ({claimed.sha256[:12]})"
            agent = files.agent()
            report.agent = agent.name
        except RunError as error:
            self._find("run", str(error))
            return report
        except SuiteError as error:
            self._find("suite", str(error))
            return report
        if suite is not None and suite.sha256 != claimed.sha256:
            self._find(
                "suite",
                f"the run answers another suite: {claimed.name} {claimed.version} with SHA-256 {claimed.sha256}, "
                f"expected {suite.name} {suite.version} with {suite.sha256}",
            )
            return report
        suite = suite or claimed
        self._check_folders(suite)
        graded = [self._entry(suite, entry, agent) for entry in suite.entries]
        self._check_result(suite, agent, [result for result in graded if result is not None])
        return report

    def _find(self, where: str, sentence: str) -> None:
        self._report.findings.append(Finding(where, sentence))

    def _check_folders(self, suite: Suite) -> None:
        place = self._files.folder / "entries"
        names = {entry.name for entry in suite.entries}
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name not in names:
                self._find(f"entries/{path.name}", "is no entry of the suite")

    def _entry(self, suite: Suite, entry: SuiteEntry, agent: AgentCard) -> EntryResult | None:
        """Check the shards of one entry, and grade what they hold."""
        try:
            env = entry.make()
        except (SuiteError, EnvSpecError) as error:
            self._find(entry.name, str(error))
            return None
        try:
            shards, count = self._files.shards(entry)
        except RunError as error:
            self._find(entry.name, str(error))
            return None
        if not count:
            self._find(entry.name, f"no episodes: expected {entry.tasks} tasks x {entry.attempts} attempts")
            return None
        wanted = shard_numbers(entry, count)
        for number in sorted({*wanted, *shards}):
            if number not in shards:
                self._find(entry.name, f"shard {number} of {count} is missing")
            elif number not in wanted:
                self._find(entry.name, f"shard {number} of {count} holds tasks that the suite does not have")
        checks = [
            ShardCheck(
                suite, entry, env, shards[number], number, count, self._model_format, self._evaluations, self._find
            )
            for number in wanted
            if number in shards
        ]
        owners = {tasks_of(env, entry)[i].id: i % count + 1 for i in range(entry.tasks)}
        streams = [self._shard(check, suite, owners) for check in checks]
        window = self._evaluations.get(entry.name, {}).get("window", {})
        try:
            # One shard is played again while it is graded; several are read a second time for the grades of all.
            whole = itertools.chain.from_iterable(streams)
            result = grade_entry(suite, entry, whole, window=window, prices=agent.prices)
        finally:
            ShardCheck.close(env)
        for check in checks:
            card = result.card if len(checks) == 1 else make_report_card(check.again(), seed=suite.seed)
            self._check_card(check, card.to_dict())
            self._report.faults += check.faults
        return result

    def _shard(self, check: ShardCheck, suite: Suite, owners: Mapping[str, int]) -> Iterator[Episode]:
        for episode in check.episodes(owners):
            self._report.episodes += 1
            yield episode
        self._report.by_token += check.by_token

    def _check_card(self, check: ShardCheck, card: dict[str, Any]) -> None:
        path = check.folder / "report_card.json"
        try:
            claimed = read_json(path)
        except RunError as error:
            self._find(check.name, str(error))
            return
        self._compare(f"{check.name}/report_card.json", claimed, card)

    def _check_result(self, suite: Suite, agent: AgentCard, graded: list[EntryResult]) -> None:
        path = self._files.result_path
        if not path.exists():
            self._find("result.json", "is missing: `forethought leaderboard merge` writes it when all shards are there")
            return
        try:
            claimed = read_json(path)
        except RunError as error:
            self._find("result.json", str(error))
            return
        if len(graded) == len(suite.entries):
            self._compare("result.json", claimed, combine(suite, agent, graded).to_dict())

    def _compare(self, where: str, claimed: Any, found: Any) -> None:
        differences = list(itertools.islice(_differences(claimed, found, ""), 4))
        if differences:
            more = " and more" if len(differences) == 4 else ""
            told = "; ".join(differences[:3])
            self._find(where, f"does not say what the episodes say: {told}{more}{self._other_version()}")

    def _other_version(self) -> str:
        """What to do where another version of the package computed the numbers."""
        here = _installed()
        versions = [evaluation.get("versions") for evaluation in self._evaluations.values()]
        made = {str(version.get("forethought")) for version in versions if isinstance(version, dict)}
        others = sorted(made - {here})
        return f" (made with forethought {others[0][:40]}, this is {here}: verify with that version)" if others else ""


def _installed() -> str:
    try:
        return importlib.metadata.version("forethought")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _differences(claimed: Any, found: Any, path: str) -> Iterable[str]:
    """Where two values of JSON differ."""
    if isinstance(claimed, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*found, *claimed]):
            yield from _differences(claimed.get(key), found.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(claimed, list | tuple) and isinstance(found, list | tuple) and len(claimed) == len(found):
        for number, (a, b) in enumerate(zip(claimed, found, strict=True)):
            yield from _differences(a, b, f"{path}.{number}")
    elif not _same(claimed, found):
        yield f"{path} is {_short(claimed)}, computed again {_short(found)}"


def _same(a: Any, b: Any) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-9) if numbers else bool(a == b)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
