"""The command `forethought`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from .commands import envs, eval, export, leaderboard, plans, replay, run, schemas, view
from .commands.interrupted import EXIT_INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (0, 1 for a mistake of the user's, 130 after Ctrl-C)."""
    # Models and data never come from a hub behind the user's back, and small models want one thread per process.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        options = _parse(arguments)
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # scripts and environments of the user's own
        status: int = options.run(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        sentence = _explain(error)
        if sentence is None:
            raise
        print(f"forethought: {' '.join(sentence.split())}", file=sys.stderr)
        return 1
    return status


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; overrides may stand behind options too, which argparse alone does not take."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "overrides"):
        options.overrides += [a for a in rest if "=" in a and not a.startswith("-")]
        rest = [a for a in rest if a not in options.overrides]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("forethought", description="Teach language models to plan, and measure it.")
    commands = parser.add_subparsers(title="commands", required=True)
    for command in (run, eval, replay, view, leaderboard, plans, export, schemas, envs):
        command.add(commands)
    return parser


def _explain(error: Exception) -> str | None:
    """What happened in one sentence, for what a user or the machine can do wrong; None for a fault of the program."""
    from ..agents.env_spec import EnvSpecError
    from ..agents.episode_store import StoreError
    from ..agents.evaluation import EvaluationError
    from ..agents.local_model import ModelError
    from ..agents.plans import PlanError
    from ..agents.published import SchemaError
    from ..envs.tasks import TaskError
    from ..sandboxes import InfrastructureFault
    from .extras import MissingExtra
    from .run_folder import ChildFailed
    from .toml_tables import ConfigError

    mistakes = (
        ChildFailed, ConfigError, EnvSpecError, EvaluationError, InfrastructureFault, MissingExtra, ModelError,
        PlanError, SchemaError, StoreError, TaskError,
    )  # fmt: skip
    if isinstance(error, mistakes):
        return str(error)
    # safetensors and torch tell of a disk that takes no more in exceptions of their own.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    text = str(error)
    full |= "os error 28" in text or "os error 27" in text or ("inline_container.cc" in text and "Reader" not in text)
    if full:
        place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return (
            f"the disk takes no more{place}; what is finished is kept: free some space and run the same command "
            f"again, it goes on from there"
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return None


if __name__ == "__main__":
    raise SystemExit(main())
