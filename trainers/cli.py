"""The command `forethought`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..agents.context_format import PlainFormat
    from ..envs.tool_env import ToolEnv

EXIT_INTERRUPTED = 130
_SMALL_MODEL_BYTES = 200 << 20


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

    run = commands.add_parser("run", help="run a recipe, or go on with one that was interrupted")
    run.add_argument("recipe", help="the TOML file")
    run.add_argument(
        "overrides", nargs="*", metavar="name=value", help="override, such as seed=1 or grpo.trainer.max_steps=10"
    )
    run.add_argument("--dry-run", action="store_true", help="check the recipe and say what would be done")
    run.add_argument("--only", metavar="RUN", help="do one reinforcement learning run: RL or the name of an ablation")
    run.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # a pipe that ends when the parent process does
    run.set_defaults(run=_run)

    evaluate = commands.add_parser("eval", help="evaluate an agent on an environment")
    evaluate.add_argument("env", help="id, such as forethought/Pointer-v0")
    evaluate.add_argument("agent", help="a model's folder or hub name, or script:module:function")
    evaluate.add_argument("--set", nargs="*", default=[], metavar="name=value", help="arguments of the environment")
    evaluate.add_argument("--tasks", type=_positive, default=100, help="how many tasks (100)")
    evaluate.add_argument("--attempts", type=_positive, default=1, help="attempts at each task (1)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted one goes on")
    evaluate.add_argument("--max-turn-tokens", type=_positive, default=1024)
    evaluate.add_argument("--temperature", type=float, default=1.0)
    evaluate.add_argument(
        "--window",
        nargs="*",
        default=[],
        metavar="name=value",
        help="context window, such as policy=learned limit=8192",
    )
    evaluate.add_argument("--concurrency", type=_positive, default=64)
    evaluate.set_defaults(run=_eval)

    replay = commands.add_parser("replay", help="replay the episodes of a run and compare observations and scores")
    replay.add_argument("folder", type=Path)
    replay.set_defaults(run=_replay)

    listing = commands.add_parser("envs", help="list the environments")
    listing.set_defaults(run=_envs)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {value}")
    return value


def _run(options: argparse.Namespace) -> None:
    from .extras import import_extra
    from .progress import Progress
    from .recipe import load_recipe

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
        _use_one_thread()
    _quiet_libraries()
    pipeline.run(options.only)


def _end_with(pipe: int) -> None:
    """End this process when the other end of the pipe is closed, which the system does when the parent dies."""

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def _eval(options: argparse.Namespace) -> None:
    from ..agents.agent import ScriptedAgent
    from ..agents.engine import SamplingParams
    from ..agents.env_spec import EnvSpec
    from ..agents.evaluation import evaluate
    from ..agents.report import format_summary
    from ..envs import background_loop
    from .extras import import_extra
    from .progress import Progress
    from .recipe import WindowTable
    from .run_folder import finished_episodes
    from .scripts import load_script
    from .toml_tables import Source, apply_overrides, build

    kwargs: dict[str, Any] = {}
    apply_overrides(kwargs, options.set)
    tables: dict[str, Any] = {}
    apply_overrides(tables, options.window)
    window = build(WindowTable, tables, Source("--window", "", options.window)).window()
    spec = EnvSpec(id=options.env, kwargs=kwargs)
    env = spec.make()
    tasks = env.tasks.head(options.tasks)
    if options.agent.startswith("script:"):
        script = load_script(options.agent.removeprefix("script:"))
        agent: Any = ScriptedAgent(script, _format_of_scripts(env), window=window)
    else:
        import_extra("torch", "train")
        import_extra("transformers", "train")
        _quiet_libraries()
        from ..agents.local_model import load_model_agent

        if _is_small(Path(options.agent)):
            _use_one_thread()
        params = SamplingParams(max_tokens=options.max_turn_tokens, temperature=options.temperature)
        agent = load_model_agent(options.agent, sampling=params, slots=options.concurrency, window=window)
    counter = Progress(sys.stderr).counter("eval", len(tasks) * options.attempts)
    done = count(finished_episodes(options.out) + 1)
    card = background_loop.run(
        evaluate(
            spec, agent, tasks, attempts=options.attempts, seed=options.seed, folder=options.out,
            concurrency=options.concurrency, on_episode=lambda _: counter.show(next(done)),
        )
    )  # fmt: skip
    print(f"\n{format_summary({agent.name: card})}\n\nepisodes and report card in {options.out}")


def _format_of_scripts(env: ToolEnv) -> PlainFormat | None:
    """Words where the environment is written in them, so that tokens are counted like those of its models."""
    from ..agents.context_format import PlainFormat
    from ..agents.tokenizers import WordTokenizer
    from ..envs.protocol import Spelling

    if env.codec.spelling != Spelling.WORDS:
        return None
    try:
        return PlainFormat(WordTokenizer(env.vocabulary()))
    except ValueError:  # an open vocabulary
        return None


def _replay(options: argparse.Namespace) -> int:
    from ..agents.env_spec import EnvSpec
    from ..agents.episode_store import EpisodeStore
    from ..agents.replay import replay_episode
    from ..envs import background_loop

    async def run() -> tuple[int, int]:
        count = failed = 0
        env, made_from = None, None
        for episode in EpisodeStore(options.folder):
            if env is None or episode.env != made_from:
                env, made_from = EnvSpec(id=episode.env["id"], kwargs=episode.env["kwargs"]).make(), episode.env
            differences = await replay_episode(episode, env)
            count += 1
            failed += bool(differences)
            for difference in differences:
                print(f"{episode.id}: {difference}")
        return count, failed

    count, failed = background_loop.run(run())
    print(f"{count} episodes replayed, {failed} differ")
    return 1 if failed else 0


def _envs(options: argparse.Namespace) -> None:
    import gymnasium

    import forethought.envs  # noqa: F401  registers them

    print("\n".join(name for name in gymnasium.registry if name.startswith("forethought/")))


def _is_small(folder: Path) -> bool:
    return folder.is_dir() and sum(file.stat().st_size for file in folder.glob("*.safetensors")) < _SMALL_MODEL_BYTES


def _use_one_thread() -> None:
    """Use one torch thread in a process, unless OMP_NUM_THREADS says otherwise: small models have no work for more.

    Two threads of which one shares its core with a busy neighbour run several times slower than one.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

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


def _explain(error: Exception) -> str | None:
    """What happened in one sentence, for what a user or the machine can do wrong; None for a fault of the program."""
    from ..agents.env_spec import EnvSpecError
    from ..agents.episode_store import StoreError
    from ..agents.evaluation import EvaluationError
    from ..agents.local_model import ModelError
    from ..envs.tasks import TaskError
    from ..sandboxes import InfrastructureFault
    from .extras import MissingExtra
    from .run_folder import ChildFailed
    from .toml_tables import ConfigError

    mistakes = (
        ChildFailed, ConfigError, EnvSpecError, EvaluationError, InfrastructureFault, MissingExtra, ModelError,
        StoreError, TaskError,
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
