"""`forethought view`: look at the episodes of runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...agents.viewer import RunSet

_LISTED = 200


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    view = commands.add_parser("view", help="look at the episodes of one or two runs, in a browser or the terminal")
    view.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a recipe's output")
    view.add_argument("--port", type=_port, default=0, help="port on this machine (any that is free)")
    view.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="the model's, when it is not in the run's folder"
    )
    view.add_argument("--terminal", action="store_true", help="print the list, or one episode, and end")
    view.add_argument("--episode", metavar="ID", help="with --terminal: id, or line number, of an episode")
    view.add_argument("--search", default="", metavar="WORDS", help="with --terminal: words of ids or tasks")
    view.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="with --terminal: failed, replanned, looped, truncated, fault, damaged, ...",
    )
    view.set_defaults(run=_view)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, found {text!r}")
    return int(text)


def _view(options: argparse.Namespace) -> int:
    from ...agents.viewer import RunSet, ViewerError

    try:
        runs = RunSet(options.runs)
        return _print(runs, options) if options.terminal else _serve(runs, options)
    except ViewerError as error:
        print(f"forethought: {error}", file=sys.stderr)
        return 1


def _serve(runs: RunSet, options: argparse.Namespace) -> int:
    from ...agents.viewer import ViewerError, ViewerServer

    if options.tokenizer is not None and not (options.tokenizer / "tokenizer.json").exists():
        raise ViewerError(f"no tokenizer at {options.tokenizer}: expected a model's folder, with a file tokenizer.json")
    server = ViewerServer(runs, model=options.tokenizer, port=options.port)
    print(f"{server.url}\nonly from this machine; Ctrl-C ends it", flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        server.close()
    return 0


def _print(runs: RunSet, options: argparse.Namespace) -> int:
    from ...agents.viewer import write_lines

    try:
        write_lines(_episode(runs, options.episode) if options.episode else _lists(runs, options))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        runs.close()
    return 0


def _lists(runs: RunSet, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    from ...agents.viewer import Query, list_lines, parse_flags

    query = Query(search=options.search, flags=parse_flags(options.only))
    for run in runs.runs:
        yield from list_lines(run, query, _LISTED if len(runs.runs) == 1 else _LISTED // 10)


def _episode(runs: RunSet, name: str) -> Iterator[tuple[str, str]]:
    """The episode in every run that has it."""
    from ...agents.viewer import ViewerError, episode_lines, find_episode

    found = False
    for run in runs.runs:
        line = find_episode(run, name)
        if line is not None:
            yield from (("", ""),) if found else ()
            yield from episode_lines(run, line)
            found = True
    if not found:
        raise ViewerError(
            f"no episode {name!r}: expected an id or a line number of {', '.join(r.name for r in runs.runs[:5])}"
        )
