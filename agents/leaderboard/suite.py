"""Suites: what a leaderboard asks, with a hash that two runs share exactly when they were asked the same."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...envs.json_schema import first_violation, published_validator
from ...envs.tasks import TaskSet
from ...envs.tool_env import ToolEnv
from ..agent import Agent
from ..context_window import ContextWindow
from ..engine import SamplingParams
from ..env_spec import EnvSpec
from ..evaluation import EvaluationError

SCHEMA = "forethought/suite/1"


class SuiteError(EvaluationError):
    """A suite cannot be read or carried out; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class SuiteEntry:
    """One environment, and how it is asked. See `suite.schema.json` for the fields."""

    name: str
    env: str
    env_version: str
    tasks: int
    attempts: int = 1
    split: str | None = None
    mode: str | None = None
    budget: Mapping[str, Any] | None = None
    window: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tasks_sha256: str | None = None

    @property
    def spec(self) -> EnvSpec:
        """The environment."""
        named = {"split": self.split, "mode": self.mode, "budget": self.budget}
        return EnvSpec(id=self.env, kwargs={**self.kwargs, **{k: v for k, v in named.items() if v is not None}})

    def make(self) -> ToolEnv:
        """An instance of the environment, with the tasks and of the version that the suite names.

        Raises:
            SuiteError: it is of another version, has too few tasks, or others than those that the suite pins.
        """
        env = self.spec.make()
        if env.version != self.env_version:
            raise SuiteError(
                f"entry {self.name!r}: the suite asks for version {self.env_version} of {self.env}, installed is "
                f"version {env.version}; scores of different versions cannot be compared"
            )
        if len(env.tasks) < self.tasks:
            raise SuiteError(f"entry {self.name!r}: the suite asks for {self.tasks} tasks, there are {len(env.tasks)}")
        if self.tasks_sha256 is not None and (found := tasks_digest(tasks_of(env, self))) != self.tasks_sha256:
            raise SuiteError(
                f"entry {self.name!r}: these are not the suite's tasks: expected SHA-256 {self.tasks_sha256}, found "
                f"{found}; put the files there that the suite was made with"
            )
        return env

    def window_of(self, own: ContextWindow) -> ContextWindow:
        """The window of an agent whose own choice is `own`."""
        return replace(own, **self.window)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite."""

    name: str
    version: str
    entries: Sequence[SuiteEntry]
    max_turn_tokens: int
    fixed_sampling: Mapping[str, Any] = field(default_factory=dict)
    """`temperature`, `top_p` and `top_k`, where the suite prescribes them."""
    seed: int = 0
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The suite as its file says it, without what is left at its default."""
        entries = [{k: v for k, v in asdict(entry).items() if v not in (None, {})} for entry in self.entries]
        for entry in entries:
            if entry["attempts"] == 1:
                del entry["attempts"]
        data: dict[str, Any] = {"schema": SCHEMA, "name": self.name, "version": self.version}
        if self.description:
            data["description"] = self.description
        if self.seed:
            data["seed"] = self.seed
        data["sampling"] = {"max_turn_tokens": self.max_turn_tokens, **self.fixed_sampling}
        return {**data, "entries": entries}

    @property
    def sha256(self) -> str:
        """Of the content: neither the file's format nor its layout, nor a default that is spelled out, change it."""
        text = json.dumps(_whole(self.to_dict()), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def sampling_of(self, own: SamplingParams) -> SamplingParams:
        """How an agent samples whose own choice is `own`."""
        return replace(own, max_tokens=min(own.max_tokens, self.max_turn_tokens), **self.fixed_sampling)

    def episodes(self) -> int:
        """Episodes of a whole run."""
        return sum(entry.tasks * entry.attempts for entry in self.entries)

    @classmethod
    def from_dict(cls, data: Any, where: str = "suite") -> Suite:
        """A suite from the content of its file.

        Raises:
            SuiteError: the content does not fit the published schema, two entries share a name, or an argument is given
                twice; `where` is named.
        """
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise SuiteError(f"{where}: expected schema {SCHEMA!r}, found {data.get('schema')!r}")
        violation = first_violation(published_validator("suite", "forethought.agents"), data)
        if violation is not None:
            raise SuiteError(f"{where}: not a suite: {violation}")
        entries = [SuiteEntry(**entry) for entry in data["entries"]]
        seen: set[str] = set()
        for entry in entries:
            if entry.name in seen:
                raise SuiteError(f"{where}: two entries have the name {entry.name!r}")
            seen.add(entry.name)
            for name in ("split", "mode", "budget"):
                if getattr(entry, name) is not None and name in entry.kwargs:
                    raise SuiteError(f"{where}: entry {entry.name!r} gives {name!r} twice, once in kwargs")
        sampling = dict(data["sampling"])
        return cls(
            name=data["name"],
            version=data["version"],
            description=data.get("description", ""),
            seed=data.get("seed", 0),
            max_turn_tokens=sampling.pop("max_turn_tokens"),
            fixed_sampling=sampling,
            entries=entries,
        )


def load_suite(path: str | Path) -> Suite:
    """The suite of a TOML or JSON file.

    Raises:
        SuiteError: the file is not there, or holds no suite.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SuiteError(f"suite {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not in UTF-8: {error.reason} at byte {error.start}") from None
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path}: neither TOML nor JSON of its ending: {error}") from None
    return Suite.from_dict(data, str(path))


def tasks_of(env: ToolEnv, entry: SuiteEntry, shard: int = 1, shards: int = 1) -> TaskSet:
    """The tasks of one shard (counted from 1): every `shards`-th of the entry's tasks."""
    return env.tasks.head(entry.tasks).select(range(shard - 1, entry.tasks, shards))


def tasks_digest(tasks: TaskSet) -> str:
    """SHA-256 of the tasks' rows: the same that `evaluation.json` holds."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps(task.to_row(), sort_keys=True).encode("ascii") + b"\n")
    return digest.hexdigest()


def fitted(agent: Agent, suite: Suite, entry: SuiteEntry) -> Agent:
    """A copy of an agent that samples and remembers as the suite prescribes."""
    fitting = copy.copy(agent)
    fitting.sampling = suite.sampling_of(agent.sampling)
    fitting.window = entry.window_of(agent.window)
    return fitting


def _whole(value: Any) -> Any:
    """The value with whole numbers written alike (1.0 as 1), as RFC 8785 writes them."""
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
