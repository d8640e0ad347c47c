"""`forethought envs`: list the environments."""

from __future__ import annotations

import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    listing = commands.add_parser("envs", help="list the environments")
    listing.set_defaults(run=_envs)


def _envs(options: argparse.Namespace) -> None:
    import gymnasium

    import forethought.envs  # noqa: F401  registers them

    print("\n".join(name for name in gymnasium.registry if name.startswith("forethought/")))
