"""`forethought export`: the episodes of a run for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    export = commands.add_parser("export", help="write the episodes of a run as ATIF or as chat messages")
    export.add_argument("run_folder", metavar="run", type=Path, help="the run's folder")
    export.add_argument(
        "--to",
        choices=["atif", "chat"],
        required=True,
        help="atif: Harbor's trajectories, loss-free; chat: messages, a row for each context that the policy saw",
    )
    export.add_argument(
        "--out", type=Path, required=True, help="a .jsonl file; for atif also a folder, with a file for each episode"
    )
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from ...agents.export import write_atif, write_chat

    if options.to == "atif":
        print(f"{write_atif(options.run_folder, options.out)} trajectories in {options.out}")
    else:
        print(f"{write_chat(options.run_folder, options.out)} contexts in {options.out}")
