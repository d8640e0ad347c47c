"""Verifies one shard of an entry: what was run, which episodes there are, and each of them played again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from ...envs import background_loop
from ...envs.tasks import Task
from ...envs.tool_env import ToolEnv
from ...sandboxes import InfrastructureFault
from ..context_format import ContextFormat
from ..episode import Episode, Status
from ..evaluation.evaluate import SCHEMA as EVALUATION_SCHEMA
from ..evaluation.records import EpisodeRecord
from ..replay import replay_episode
from .checks import check_budget, check_decoding, check_ending, check_texts, check_tokens
from .contexts import format_of, read_contexts
from .reenact import Reenactment, can_reenact
from .rows import Columns, Damage, read_rows
from .run_files import RunError, read_json
from .suite import Suite, SuiteEntry, tasks_digest, tasks_of

_BATCH = 32


class ShardCheck:
    """One shard.

    Args:
        suite: The suite.
        entry: Its entry.
        env: An instance of the entry's environment.
        folder: The shard's folder.
        shard: Its number, from 1.
        shards: How many there are.
        model_format: See `verify_run`.
        evaluations: By entry, what its first shard says about the evaluation; added to.
        find: Told where and what is wrong.
    """

    def __init__(
        self,
        suite: Suite,
        entry: SuiteEntry,
        env: ToolEnv,
        folder: Path,
        shard: int,
        shards: int,
        model_format: ContextFormat | None,
        evaluations: dict[str, dict[str, Any]],
        find: Callable[[str, str], None],
    ) -> None:
        self.folder = folder
        self.name = entry.name if shards == 1 else f"{entry.name}, shard {shard} of {shards}"
        self.faults = 0
        """Rows of faults that were made again."""
        self.by_token = 0
        self._suite, self._entry, self._env, self._shard = suite, entry, env, shard
        self._tasks: dict[str, Task] = {task.id: task for task in tasks_of(env, entry, shard, shards)}
        self._described = entry.spec.describe(env)
        self._digest = tasks_digest(tasks_of(env, entry, shard, shards))
        self._find_at = find
        self._window: dict[str, Any] = {}
        self._max_turn_tokens = suite.max_turn_tokens
        self._form: ContextFormat | None = None
        self._reenactment: Reenactment | None = None
        self._sound: list[int] = []
        """Lines of the episodes that were graded."""
        self._check_evaluation(evaluations)
        self._check_contexts(model_format)

    @staticmethod
    def close(env: ToolEnv) -> None:
        """Close an environment that a check has used."""
        background_loop.run(env.close_async())

    def episodes(self, owners: Mapping[str, int]) -> Iterator[Episode]:
        """The episodes that belong to the shard, each after it was checked.

        Args:
            owners: By task of the entry, the shard that it belongs to.
        """
        seen: set[str] = set()
        faults: dict[str, int] = {}
        stream = self._belonging(owners, seen, faults)
        while batch := list(itertools.islice(stream, _BATCH)):
            for (number, episode), problems in zip(batch, background_loop.run(self._check(batch)), strict=True):
                for problem in problems:
                    self._find(f"episode {episode.id!r}: {problem}")
                if not problems or _can_be_graded(episode):
                    self._sound.append(number)
                    yield episode
        self.faults = sum(faults.values())
        for task in self._tasks:
            for attempt in range(self._entry.attempts):
                name = f"{task}/{attempt}"
                if name not in seen:
                    ended = "ended in a fault and was not made again" if name in faults else "is missing"
                    self._find(f"episode {name!r} {ended}")

    def again(self) -> Iterator[Episode]:
        """The same episodes a second time, unchecked."""
        columns, sound = Columns(self.folder), set(self._sound)
        path = self.folder / "episodes.jsonl"
        for item in read_rows(path) if sound else ():
            if not isinstance(item, Damage) and item[0] in sound:
                episode = columns.episode(item[1])
                assert episode is not None
                yield episode

    def _find(self, sentence: str) -> None:
        self._find_at(self.name, sentence)

    def _check_evaluation(self, evaluations: dict[str, dict[str, Any]]) -> None:
        """Compare `evaluation.json` with the suite, and with the run's other shards."""
        try:
            found = read_json(self.folder / "evaluation.json")
        except RunError as error:
            self._find(str(error))
            return
        expected = {
            "schema": EVALUATION_SCHEMA,
            "env": self._described,
            "tasks": {"count": len(self._tasks), "sha256": self._digest},
            "attempts": self._entry.attempts,
            "seed": self._suite.seed,
        }
        for name, value in expected.items():
            if found.get(name) != _plain(value):
                self._find(f"evaluation.json: {name} is {_short(found.get(name))}, the suite says {_short(value)}")
        sampling, window = found.get("sampling"), found.get("window")
        if not isinstance(sampling, dict) or not isinstance(window, dict):
            self._find("evaluation.json does not say how was sampled and in which window")
            return
        self._window = window
        most = sampling.get("max_tokens")
        if not isinstance(most, int) or most > self._suite.max_turn_tokens:
            self._find(
                f"evaluation.json: turns of {most!r} tokens, the suite allows {self._suite.max_turn_tokens}: budget "
                "exceeded"
            )
        else:
            self._max_turn_tokens = most
        for name, value in self._suite.fixed_sampling.items():
            if sampling.get(name) != value:
                self._find(f"evaluation.json: {name} {sampling.get(name)!r}, the suite prescribes {value!r}")
        for name, value in self._entry.window.items():
            if window.get(name) != value:
                self._find(f"evaluation.json: window {name} {window.get(name)!r}, the suite prescribes {value!r}")
        for other, evaluation in evaluations.items():
            for part in ("agent", "sampling", "window") if other == self._entry.name else ("agent",):
                if evaluation.get(part) != found.get(part):
                    self._find(
                        f"evaluation.json: {part} is {_short(found.get(part))}, in {other} it is "
                        f"{_short(evaluation.get(part))}: one run has one agent"
                    )
        evaluations.setdefault(self._entry.name, found)

    def _check_contexts(self, model_format: ContextFormat | None) -> None:
        path = self.folder / "context.json"
        try:
            window, context_limit, tokenizer = read_contexts(read_json(path), str(path))
            self._form = format_of(tokenizer, self._env, model_format, str(path))
        except RunError as error:
            self._find(str(error))
            return
        if window.describe() != self._window:
            self._find(f"context.json: window {window.describe()}, evaluation.json has {self._window}")
        if self._form is not None:
            self._reenactment = Reenactment(
                self._entry.spec,
                self._env,
                self._form,
                window=window,
                context_limit=context_limit,
                max_turn_tokens=self._max_turn_tokens,
            )

    def _belonging(
        self, owners: Mapping[str, int], seen: set[str], faults: dict[str, int]
    ) -> Iterator[tuple[int, Episode]]:
        """The episodes that the suite asks for and their lines; what else there is, is told."""
        path = self.folder / "episodes.jsonl"
        if not path.is_file():
            self._find("episodes.jsonl is missing")
            return
        columns, offset = Columns(self.folder), 0
        for item in read_rows(path):
            if isinstance(item, Damage):
                self._find(f"episodes.jsonl, line {item.line}: {item.problem}")
                continue
            number, row = item
            for segment in row["segments"]:
                if segment["offset"] != offset:
                    self._find(
                        f"episode {row['id']!r}: its tokens begin at {segment['offset']}, those before end at "
                        f"{offset}: rows were removed, added or re-ordered"
                    )
                offset = segment["offset"] + segment["length"]
            if row["status"] == Status.FAULT:
                faults[row["id"]] = faults.get(row["id"], 0) + 1
                continue
            problem = self._stranger(row, owners, seen)
            if problem is not None:
                self._find(f"episode {row['id']!r}{problem}")
                continue
            seen.add(row["id"])
            episode = columns.episode(row)
            if episode is None:
                self._find(f"episode {row['id']!r}: its tokens are missing: a column in tokens/ is too short")
                continue
            yield number, episode
        if columns.longest > offset:
            self._find(f"tokens/ holds {columns.longest - offset} tokens that belong to no episode")

    def _stranger(self, row: Mapping[str, Any], owners: Mapping[str, int], seen: set[str]) -> str | None:
        """Why an episode is none that the suite asks for in this shard."""
        if row["id"] in seen:
            return " is there twice: every attempt counts once"
        if row["id"] != f"{row['task_id']}/{row['attempt']}":
            return f": its id is not that of attempt {row['attempt']} at task {row['task_id']!r}"
        owner = owners.get(row["task_id"])
        if owner is None:
            return ": its task is none of the suite's"
        if owner != self._shard:
            return f": its task belongs to shard {owner}"
        if row["attempt"] >= self._entry.attempts:
            return f": the suite asks for {self._entry.attempts} attempts"
        return None

    async def _check(self, episodes: list[tuple[int, Episode]]) -> list[list[str]]:
        """What is wrong with each episode."""
        problems = []
        for _, episode in episodes:
            try:
                problems.append(await self._problems(episode))
            except InfrastructureFault:
                raise
            except Exception as error:  # a record can be wrong in more ways than are foreseen
                problems.append([f"cannot be played again: {type(error).__name__}: {_short(str(error))}"])
        return problems

    async def _problems(self, episode: Episode) -> list[str]:
        task = self._tasks[episode.task_id]
        seed = crc32(f"{self._suite.seed}/{task.id}".encode())
        found = []
        if episode.env != self._described:
            version = episode.env["version"]
            found.append(
                f"made in version {version} of the environment, the suite asks for {self._entry.env_version}"
                if version != self._entry.env_version
                else f"made in another environment: {_short(episode.env)}"
            )
        if episode.task != _plain(task.to_row()):
            found.append("its task is not as the suite has it: " + _first_difference(episode.task, task.to_row()))
        if episode.seed != seed:
            found.append(f"its seed is {episode.seed}, the suite's gives {seed}")
        if episode.window != self._window:
            found.append(f"made under the window {episode.window}, evaluation.json says {self._window}")
        found += check_tokens(episode, self._window.get("limit"), self._max_turn_tokens)
        found += check_ending(episode)
        found += check_budget(episode, self._env.budget)
        return found or await self._play(episode, task)

    async def _play(self, episode: Episode, task: Task) -> list[str]:
        """Play an episode again that looks right: token by token, or as texts."""
        if self._reenactment is not None and can_reenact(episode):
            self.by_token += 1
            differences = await self._reenactment.differences(episode, task)
            if not differences:
                return []
            # Texts tell what happened in words that people know; the tokens tell the rest.
            told = [*check_decoding(episode, self._form), *await replay_episode(episode, self._env)]
            return told or differences
        return await replay_episode(episode, self._env) or list(check_texts(episode, self._env, self._form))


def _can_be_graded(episode: Episode) -> bool:
    """Whether a record that is wrong is right enough to count."""
    try:
        EpisodeRecord.of(episode)
    except Exception:
        return False
    return True


def _first_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    for name in dict.fromkeys([*expected, *found]):
        if found.get(name) != _plain(expected.get(name)):
            return f"{name} is {_short(found.get(name))}, it should be {_short(expected.get(name))}"
    return "a part is missing"


def _plain(value: Any) -> Any:
    """The value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + "..."
