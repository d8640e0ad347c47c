"""The command `forethought`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (0, 1 for a mistake of the user's, 130 after Ctrl-C)."""
    options = _parser().parse_args(arguments)
    # Models and data never come from a hub behind the user's back, and small models want one thread per process.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except _mistakes() as error:
        print(f"forethought: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("forethought", description="Teach language models to plan, and measure it.")
    commands = parser.add_subparsers(title="commands", required=True)

    run = commands.add_parser("run", help="run a recipe, or go on with one that was interrupted")
    run.add_argument("recipe", help="the TOML file")
    run.add_argument(
        "overrides", nargs="*", metavar="name=value", help="override, such as seed=1 or grpo.trainer.max_steps=10"
    )
    run.add_argument("--dry-run", action="store_true", help="check the recipe and say what would be done")
    run.add_argument("--only", metavar="RUN", help="do one reinforcement learning run: RL or the name of an ablation")
    run.set_defaults(run=_run)

    evaluate = commands.add_parser("eval", help="evaluate an agent on an environment")
    evaluate.add_argument("env", help="id, such as forethought/Pointer-v0")
    evaluate.add_argument("agent", help="a model's folder or hub name, or script:module:function")
    evaluate.add_argument("--set", nargs="*", default=[], metavar="name=value", help="arguments of the environment")
    evaluate.add_argument("--tasks", type=int, default=100, help="how many tasks (100)")
    evaluate.add_argument("--attempts", type=int, default=1, help="attempts at each task (1)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted one goes on")
    evaluate.add_argument("--max-turn-tokens", type=int, default=1024)
    evaluate.add_argument("--temperature", type=float, default=1.0)
    evaluate.add_argument("--concurrency", type=int, default=64)
    evaluate.set_defaults(run=_eval)

    replay = commands.add_parser("replay", help="replay the episodes of a run and compare observations and scores")
    replay.add_argument("folder", type=Path)
    replay.set_defaults(run=_replay)

    listing = commands.add_parser("envs", help="list the environments")
    listing.set_defaults(run=_envs)
    return parser


def _run(options: argparse.Namespace) -> None:
    import importlib.util

    from .extras import import_extra
    from .names import MAIN_RUN
    from .progress import Progress
    from .recipe import load_recipe
    from .toml_tables import ConfigError

    recipe = load_recipe(options.recipe, options.overrides)
    pipeline_module = import_extra("forethought.trainers.pipeline", "train")
    prefix = f"[{options.only}] " if options.only else ""
    pipeline = pipeline_module.Pipeline(recipe, Progress(prefix=prefix))
    if options.dry_run:
        print("\n".join(pipeline.describe()))
        return
    if importlib.util.find_spec("trl") is None:
        import_extra("trl", "train")
    _one_thread_for_small_models()
    _quiet_libraries()
    if options.only is None:
        pipeline.run()
        return
    ablations: dict[str, Any] = {MAIN_RUN: None} | {a.name: a for a in recipe.ablations}
    if options.only not in ablations:
        raise ConfigError(f"--only {options.only!r}: the runs of this recipe are {', '.join(ablations)}")
    pipeline.reinforce(ablations[options.only])


def _eval(options: argparse.Namespace) -> None:
    from ..agents.agent import ScriptedAgent
    from ..agents.engine import SamplingParams
    from ..agents.env_spec import EnvSpec
    from ..agents.evaluation import evaluate
    from ..agents.report import format_summary
    from ..envs import background_loop
    from .extras import import_extra
    from .progress import Progress
    from .scripts import load_script
    from .toml_tables import apply_overrides

    kwargs: dict[str, Any] = {}
    apply_overrides(kwargs, options.set)
    spec = EnvSpec(id=options.env, kwargs=kwargs)
    tasks = spec.make().tasks.head(options.tasks)
    if options.agent.startswith("script:"):
        agent: Any = ScriptedAgent(load_script(options.agent.removeprefix("script:")))
    else:
        _one_thread_for_small_models()
        import_extra("transformers", "train")
        _quiet_libraries()
        from ..agents.local_model import load_model_agent

        params = SamplingParams(max_tokens=options.max_turn_tokens, temperature=options.temperature)
        agent = load_model_agent(options.agent, sampling=params, slots=options.concurrency)
    counter = Progress(sys.stderr).counter("eval", len(tasks) * options.attempts)
    done = count(1)
    card = background_loop.run(
        evaluate(
            spec, agent, tasks, attempts=options.attempts, seed=options.seed, folder=options.out,
            concurrency=options.concurrency, on_episode=lambda _: counter.show(next(done)),
        )
    )  # fmt: skip
    print(f"\n{format_summary({agent.name: card})}\n\nepisodes and report card in {options.out}")


def _replay(options: argparse.Namespace) -> None:
    from ..agents.episode_store import EpisodeStore
    from ..agents.replay import replay_episode
    from ..envs import background_loop

    async def run() -> tuple[int, int]:
        count = failed = 0
        for episode in EpisodeStore(options.folder):
            differences = await replay_episode(episode)
            count += 1
            failed += bool(differences)
            for difference in differences:
                print(f"{episode.id}: {difference}")
        return count, failed

    count, failed = background_loop.run(run())
    print(f"{count} episodes replayed, {failed} differ")
    if failed:
        raise SystemExit(1)


def _envs(options: argparse.Namespace) -> None:
    import gymnasium

    import forethought.envs  # noqa: F401  registers them

    print("\n".join(name for name in gymnasium.registry if name.startswith("forethought/")))


def _one_thread_for_small_models() -> None:
    """Use one torch thread per process, unless OMP_NUM_THREADS says otherwise.

    Two threads of which one shares its core with a busy neighbour run several times slower than one.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import torch
    except ModuleNotFoundError:
        return
    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def _quiet_libraries() -> None:
    """Keep the progress bars and notices of transformers and data sets out of what a person reads."""
    import warnings

    import datasets
    import transformers

    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")


def _mistakes() -> tuple[type[Exception], ...]:
    """What a user can do wrong, told in one sentence without a traceback."""
    from ..agents.env_spec import EnvSpecError
    from ..agents.episode_store import StoreError
    from ..agents.evaluation import EvaluationError
    from ..envs.tasks import TaskError
    from .extras import MissingExtra
    from .run_folder import ChildFailed
    from .toml_tables import ConfigError

    return (ChildFailed, ConfigError, EnvSpecError, EvaluationError, StoreError, TaskError, MissingExtra)


if __name__ == "__main__":
    raise SystemExit(main())
