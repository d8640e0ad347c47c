"""`forethought eval`: evaluate an agent on an environment."""

from __future__ import annotations

import argparse
import sys
from itertools import count
from pathlib import Path
from typing import Any

from .agents import add_agent, agent_maker, positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    evaluate = commands.add_parser("eval", help="evaluate an agent on an environment")
    evaluate.add_argument("env", help="id, such as forethought/Pointer-v0")
    add_agent(evaluate)
    evaluate.add_argument("--set", nargs="*", default=[], metavar="name=value", help="arguments of the environment")
    evaluate.add_argument("--tasks", type=positive, default=100, help="how many tasks (100)")
    evaluate.add_argument("--attempts", type=positive, default=1, help="attempts at each task (1)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted one goes on")
    evaluate.add_argument("--max-turn-tokens", type=positive, default=1024)
    evaluate.add_argument(
        "--strategy",
        nargs="*",
        default=[],
        choices=["vote", "confidence", "likelihood", "oracle"],
        help="what several attempts at a task are worth together",
    )
    evaluate.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> None:
    from ...agents.env_spec import EnvSpec
    from ...agents.episode_store import EpisodeStore
    from ...agents.evaluation import evaluate
    from ...agents.parallel import STRATEGIES, grade_parallel
    from ...agents.report import format_summary
    from ...envs import background_loop
    from ..progress import Progress
    from ..run_folder import finished_episodes
    from ..toml_tables import apply_overrides

    kwargs: dict[str, Any] = {}
    apply_overrides(kwargs, options.set)
    spec = EnvSpec(id=options.env, kwargs=kwargs)
    env = spec.make()
    tasks = env.tasks.head(options.tasks)
    agent = agent_maker(options, options.max_turn_tokens)(env)
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
