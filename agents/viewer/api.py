"""What the page asks for, as functions from parameters to plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..report.escape import printable
from .columns import ColumnError, TokenColumns
from .episode_view import describe_episode
from .index import RunIndex
from .pieces import PieceFinder
from .query import Query, ViewerError, parse_flags
from .runs import RunSet
from .trace import DamagedLine

_MOST_ROWS, _MOST_TURNS, _MOST_TOKENS = 5000, 500, 10_000
Parameters = Mapping[str, str]


class Api:
    """The answers to the page.

    Args:
        runs: The runs.
        model: A model's folder whose tokenizer is tried first.
    """

    def __init__(self, runs: RunSet, model: Path | None = None) -> None:
        self._runs = runs
        self._model = model
        self._finders: dict[int, PieceFinder] = {}
        self.routes: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "runs": self.list_runs,
            "episodes": self.list_episodes,
            "episode": self.show_episode,
            "tokens": self.show_tokens,
        }

    def list_runs(self, parameters: Parameters) -> dict[str, Any]:
        """The names of the runs; there are more when a running recipe has begun another part."""
        self._runs.look()
        return {"runs": [printable(run.name) for run in self._runs.runs]}

    def list_episodes(self, parameters: Parameters) -> dict[str, Any]:
        """A stretch of the list, and how far the run has been read."""
        run = self._runs.runs[self.run_number(parameters)]
        run.start()
        run.wait(0.3)  # a small run is whole in the first answer
        progress = run.progress()
        found = run.find(
            Query(
                search=parameters.get("search", "")[:500],
                flags=parse_flags(filter(None, parameters.get("flags", "").split(","))),
                score=parameters.get("score", "reward"),
                low=_float(parameters, "low"),
                high=_float(parameters, "high"),
                task_id=parameters.get("task_id"),
                sort=parameters.get("sort", "line"),
            )
        )
        start = _int(parameters, "start", 0)
        rows = found[start : start + min(_MOST_ROWS, _int(parameters, "count", 100))].tolist()
        problems = list(progress.problems)
        if progress.damaged:
            problems.append(_lines(progress.damaged, "cannot be read", "damaged"))
        if progress.unsound:
            problems.append(_lines(progress.unsound, "can be read in part", "unsound"))
        return {
            "name": printable(run.name),
            "folder": printable(str(run.folder)),
            "lines": progress.lines,
            "matches": len(found),
            "start": start,
            "read_bytes": progress.read_bytes,
            "file_bytes": progress.file_bytes,
            "reading": progress.reading,
            "generation": progress.generation,
            "problems": [printable(problem) for problem in problems],
            "scores": [printable(name) for name in run.score_names()],
            "rows": [_harmless(run.card(line)) for line in rows],
        }

    def show_episode(self, parameters: Parameters) -> dict[str, Any]:
        """One episode and some of its turns."""
        run, line = self._line(parameters)
        _, length = run.place(line)
        about = {"run": printable(run.name), "line": line, "bytes": length}
        try:
            trace = run.trace(line)
        except DamagedLine as error:
            return {**about, "damaged": printable(str(error)), **_harmless(run.card(line))}
        count = min(_MOST_TURNS, _int(parameters, "count", 100))
        return {**about, **describe_episode(trace, TokenColumns(run.folder), _int(parameters, "start", 0), count)}

    def show_tokens(self, parameters: Parameters) -> dict[str, Any]:
        """The sampled tokens of one turn with their log-probabilities, and the mean of each section."""
        run, line = self._line(parameters)
        trace = run.trace(line)
        episode, index = trace.episode, _int(parameters, "turn", 0)
        if not 0 <= index < len(episode.turns):
            raise ViewerError(f"the episode has no turn {index + 1}: it has {len(episode.turns):,}")
        turn = episode.turns[index]
        offset = trace.columns[turn.segment][0]
        columns = TokenColumns(run.folder)
        try:
            sections = [
                {
                    "kind": span.kind,
                    "tokens": span.end - span.start,
                    "mean": columns.mean_logprob(offset + span.start, span.end - span.start),
                }
                for span in episode.segments[turn.segment].sections
                if turn.start <= span.start and span.end <= turn.end
            ]
            count = turn.end - turn.start
            if count > _MOST_TOKENS:
                return {"sections": sections, "tokens": None, "why": f"more than {_MOST_TOKENS:,} tokens"}
            ids = columns.token_ids(offset + turn.start, count)
            found = self._finder(self.run_number(parameters)).pieces(ids, turn.text)
            if found is None:
                return {"sections": sections, "tokens": None, "why": "no tokenizer of the run fits its text"}
            name, pieces = found
            values = [round(value, 4) for value in columns.logprobs(offset + turn.start, count)]
        except (ColumnError, OverflowError) as error:
            raise ViewerError(str(error)) from error
        tokens = [[printable(piece), value] for piece, value in zip(pieces, values, strict=True)]
        return {"sections": sections, "tokens": tokens, "tokenizer": printable(name)}

    def raw_line(self, parameters: Parameters) -> tuple[Path, int, int]:
        """File, first byte and length of a line."""
        run, line = self._line(parameters)
        offset, length = run.place(line)
        return run.folder / "episodes.jsonl", offset, length

    def _finder(self, run: int) -> PieceFinder:
        if run not in self._finders:
            self._finders[run] = PieceFinder(self._runs.runs[run].folder, self._model)
        return self._finders[run]

    def _line(self, parameters: Parameters) -> tuple[RunIndex, int]:
        """The run and the line that are asked for, as soon as the index has reached it."""
        run, line = self._runs.runs[self.run_number(parameters)], _int(parameters, "line", 0)
        run.start()
        while not run.wait(0.05) and run.progress().lines <= line:
            pass
        return run, line

    def run_number(self, parameters: Parameters) -> int:
        """The run that is asked for."""
        number = _int(parameters, "run", 0)
        if number >= len(self._runs.runs):
            raise ViewerError(f"there is no run {number}: {len(self._runs.runs)} are open")
        return number


def _harmless(card: dict[str, Any]) -> dict[str, Any]:
    for name in ("id", "prompt", "answer", "stop_reason"):
        card[name] = None if card[name] is None else printable(card[name])
    card["scores"] = {printable(name): value for name, value in card["scores"].items()}
    return card


def _lines(count: int, what: str, flag: str) -> str:
    return f"{'1 line' if count == 1 else f'{count:,} lines'} {what}: filter by {flag!r} to see which"


def _int(parameters: Parameters, name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ViewerError(f"{name}: expected a whole number, found {text[:40]!r}")
    return int(text)


def _float(parameters: Parameters, name: str) -> float | None:
    text = parameters.get(name, "")
    try:
        return float(text) if text else None
    except ValueError:
        raise ViewerError(f"{name}: expected a number, found {text[:40]!r}") from None
