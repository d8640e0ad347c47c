"""`forethought eval`: evaluate an agent on an environment."""

from __future__ import annotations

import argparse
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..libraries import quiet_libraries, use_one_thread

if TYPE_CHECKING:
    from ...agents.context_format import PlainFormat
    from ...envs.tool_env import ToolEnv

_SMALL_MODEL_BYTES = 200 << 20


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
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
    evaluate.add_argument(
        "--strategy",
        nargs="*",
        default=[],
        choices=["vote", "confidence", "likelihood", "oracle"],
        help="what several attempts at a task are worth together",
    )
    evaluate.add_argument("--concurrency", type=_positive, default=64)
    evaluate.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> None:
    from ...agents.agent import ScriptedAgent
    from ...agents.engine import SamplingParams
    from ...agents.env_spec import EnvSpec
    from ...agents.episode_store import EpisodeStore
    from ...agents.evaluation import evaluate
    from ...agents.parallel import STRATEGIES, grade_parallel
    from ...agents.report import format_summary
    from ...envs import background_loop
    from ..extras import import_extra
    from ..progress import Progress
    from ..recipe import WindowTable
    from ..run_folder import finished_episodes
    from ..scripts import load_script
    from ..toml_tables import Source, apply_overrides, build

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
        quiet_libraries()
        from ...agents.local_model import load_model_agent

        if _is_small(Path(options.agent)):
            use_one_thread()
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
    print(f"\n{format_summary({agent.name: card})}")
    if options.strategy:
        together = grade_parallel(
            EpisodeStore(options.out), [STRATEGIES[name]() for name in options.strategy], seed=options.seed
        )
        together.write(options.out)
        print(f"\n{together.table()}")
    print(f"\nepisodes and report card in {options.out}")


def _format_of_scripts(env: ToolEnv) -> PlainFormat | None:
    """Words where the environment is written in them, so that tokens are counted like those of its models."""
    from ...agents.context_format import PlainFormat
    from ...agents.tokenizers import WordTokenizer
    from ...envs.protocol import Spelling

    if env.codec.spelling != Spelling.WORDS:
        return None
    try:
        return PlainFormat(WordTokenizer(env.vocabulary()))
    except ValueError:  # an open vocabulary
        return None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {value}")
    return value


def _is_small(folder: Path) -> bool:
    return folder.is_dir() and sum(file.stat().st_size for file in folder.glob("*.safetensors")) < _SMALL_MODEL_BYTES
