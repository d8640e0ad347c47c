"""The folder of a leaderboard run.

    RUN/suite.json                         the suite
    RUN/agent.json                         whose run it is, and its prices
    RUN/entries/NAME/shard-1-of-2/         one evaluation: see `forethought.agents.evaluation.evaluate`
    RUN/entries/NAME/shard-1-of-2/context.json   how its contexts were made of tokens
    RUN/result.json                        the numbers, written when every shard is there

Shards may be made on several machines: put side by side in one folder they are one run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation import EvaluationError
from ..text_model import Prices
from .suite import Suite, SuiteEntry

AGENT_SCHEMA = "forethought/leaderboard-agent/1"
_SHARD = re.compile(r"shard-([1-9]\d*)-of-([1-9]\d*)")
_LARGEST_JSON = 256 << 20


class RunError(EvaluationError):
    """A leaderboard run cannot be read or written; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class AgentCard:
    """Whose run it is."""

    name: str
    spec: str = ""
    """How the agent was named on the command line."""
    prices: Prices | None = None
    """Of the agent's own tokens."""
    unit: str = ""
    """Of the prices, and of what sub-models cost."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        prices = None if self.prices is None else {"input": self.prices.input, "output": self.prices.output}
        return {"schema": AGENT_SCHEMA, "name": self.name, "spec": self.spec, "prices": prices, "unit": self.unit}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> AgentCard:
        """What `to_dict` wrote.

        Raises:
            RunError: it is something else.
        """
        prices = data.get("prices")
        try:
            if data["schema"] != AGENT_SCHEMA:
                raise ValueError(f"expected schema {AGENT_SCHEMA!r}, found {data['schema']!r}")
            if not isinstance(data["name"], str) or not isinstance(data["spec"], str):
                raise ValueError("expected texts in 'name' and 'spec'")
            numbers = None if prices is None else Prices(input=float(prices["input"]), output=float(prices["output"]))
            return cls(name=data["name"], spec=data["spec"], prices=numbers, unit=str(data.get("unit", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{where}: not the description of an agent: {error}") from None


class RunFiles:
    """Where the files of a run are.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.suite_path = self.folder / "suite.json"
        self.agent_path = self.folder / "agent.json"
        self.result_path = self.folder / "result.json"

    def suite(self) -> Suite:
        """The suite that the run says it answers.

        Raises:
            RunError, SuiteError: there is none, or it is damaged.
        """
        return Suite.from_dict(read_json(self.suite_path), str(self.suite_path))

    def agent(self) -> AgentCard:
        """Whose run it is.

        Raises:
            RunError: nothing says so, or it is damaged.
        """
        return AgentCard.from_dict(read_json(self.agent_path), str(self.agent_path))

    def shard(self, entry: SuiteEntry, shard: int, shards: int) -> Path:
        """The folder of one shard of an entry, counted from 1."""
        return self.folder / "entries" / entry.name / f"shard-{shard}-of-{shards}"

    def shards(self, entry: SuiteEntry) -> tuple[dict[int, Path], int]:
        """The folders of an entry's shards by number, and how many shards there should be; ({}, 0) without any.

        Raises:
            RunError: they belong to several ways of sharding.
        """
        place = self.folder / "entries" / entry.name
        found: dict[int, Path] = {}
        counts: set[int] = set()
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if match := _SHARD.fullmatch(path.name):
                found[int(match[1])] = path
                counts.add(int(match[2]))
        if len(counts) > 1:
            several = " and ".join(f"of {count}" for count in sorted(counts))
            raise RunError(f"{place}: shards {several} in one run; keep those of one way of sharding")
        return found, counts.pop() if counts else 0


def shard_numbers(entry: SuiteEntry, shards: int) -> range:
    """The shards of an entry that hold a task, counted from 1."""
    return range(1, min(shards, entry.tasks) + 1)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        RunError: there is no such file, or it is no JSON object.
    """
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is no file")
        if path.stat().st_size > _LARGEST_JSON:
            raise RunError(f"{path}: larger than {_LARGEST_JSON >> 20} MiB, which no run writes")
        data = json.loads(path.read_bytes(), parse_constant=_reject)
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def claim(path: Path, data: dict[str, Any], what: str) -> None:
    """Write a file, or find that it says the same.

    Raises:
        RunError: it says something else, so the folder belongs to another run.
    """
    data = json.loads(json.dumps(data))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)
        return
    found = read_json(path)
    for name in [*data, *found]:
        if data.get(name) != found.get(name):
            raise RunError(
                f"{path.parent} holds {what} whose {name!r} is {_short(found.get(name))}, now it is "
                f"{_short(data.get(name))}; give another folder, or delete this one"
            )


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a file that is whole or absent; shards that end at one moment do not disturb each other."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", "utf-8")
    os.replace(partial, path)


def _reject(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
