"""`forethought run`: run a recipe."""

from __future__ import annotations

import argparse
import os
import threading

from ..libraries import quiet_libraries, use_one_thread
from .interrupted import EXIT_INTERRUPTED


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    run = commands.add_parser("run", help="run a recipe, or go on with one that was interrupted")
    run.add_argument("recipe", help="the TOML file")
    run.add_argument(
        "overrides", nargs="*", metavar="name=value", help="override, such as seed=1 or grpo.trainer.max_steps=10"
    )
    run.add_argument("--dry-run", action="store_true", help="check the recipe and say what would be done")
    run.add_argument("--only", metavar="RUN", help="do one reinforcement learning run: RL or the name of an ablation")
    run.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # a pipe that ends when the parent process does
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ..extras import import_extra
    from ..progress import Progress
    from ..recipe import load_recipe

    if options.parent is not None:
        _end_with(options.parent)
    recipe = load_recipe(options.recipe, options.overrides)
    pipeline_module = import_extra("forethought.trainers.pipeline", "train")
    prefix = f"[{options.only}] " if options.only else ""
    pipeline = pipeline_module.Pipeline(recipe, Progress(prefix=prefix))
    if options.dry_run:
        unchecked = pipeline.check()
        print("\n".join([*pipeline.describe(), *unchecked]))
        return
    import_extra("transformers", "train")
    if recipe.sft is not None or recipe.grpo is not None:
        import_extra("trl", "train")
    if recipe.model.architecture is not None or recipe.processes > 1:
        use_one_thread()
    quiet_libraries()
    pipeline.run(options.only)


def _end_with(pipe: int) -> None:
    """End this process when the other end of the pipe is closed, which the system does when the parent dies."""

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()
