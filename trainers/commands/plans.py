"""`forethought plans`: draft plans, have people review them, export what they accepted."""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..libraries import quiet_libraries

if TYPE_CHECKING:
    from ...agents.agent import ModelAgent
    from ...agents.env_spec import EnvSpec
    from ...agents.plans import PlanDraft

_SOURCES = """script:module:function (with --env), a run's folder, model:FOLDER (with --env), \
server:URL (with --env and --model), or the file of a data set with human decompositions (StrategyQA, MuSiQue)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    plans = commands.add_parser(
        "plans", help="draft plans, review them on a local page, export those that people accept"
    )
    verbs = plans.add_subparsers(title="commands", required=True)
    _add_draft(verbs)
    review = verbs.add_parser("review", help="review plans on a local page")
    review.add_argument("folder", type=Path)
    review.add_argument("--reviewers", type=_positive, default=2, help="how many reviewers every plan shall have (2)")
    review.add_argument("--port", type=int, default=0, help="by default that of the last time, if it is free")
    review.set_defaults(run=_review)
    export = verbs.add_parser("export", help="write accepted plans as a training set for TRL")
    export.add_argument("folder", type=Path)
    export.add_argument("--out", type=Path, required=True, help="file, one JSON row a line")
    export.add_argument("--accepted", type=_positive, default=1, help="reviewers who must have accepted a plan (1)")
    export.add_argument("--rejected", type=int, default=0, help="reviewers who may have rejected it (0)")
    export.add_argument(
        "--spelling", choices=["json", "words"], default="json", help="in which plans are written (json)"
    )
    export.set_defaults(run=_export)


def _add_draft(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    draft = verbs.add_parser("draft", help="draft plans for tasks")
    draft.add_argument("source", help=f"where the plans come from: {_SOURCES}")
    draft.add_argument("--out", type=Path, required=True, help="folder of the plans; what it has is not drafted again")
    draft.add_argument("--env", help="id of the environment, such as forethought/Search-v0")
    draft.add_argument("--set", nargs="*", default=[], metavar="name=value", help="arguments of the environment")
    draft.add_argument("--tasks", type=_positive, default=100, help="how many tasks (100)")
    draft.add_argument("--plans", type=_positive, default=1, help="most plans of a model for one task (1)")
    draft.add_argument("--right-only", action="store_true", help="of a run: only episodes whose answer is right")
    draft.add_argument("--seed", type=int, default=0)
    draft.add_argument("--model", help="the model's name at a server")
    draft.add_argument("--key-variable", help="environment variable with the server's key")
    draft.add_argument("--temperature", type=float, default=1.0)
    draft.add_argument("--max-tokens", type=_positive, default=1024, help="most tokens of a model's turn (1024)")
    draft.set_defaults(run=_draft)


def _draft(options: argparse.Namespace) -> None:
    from ...agents.plans import write_drafts

    skipped: Counter[str] = Counter()
    drafts = _drafts(options, lambda _, reason: skipped.update([reason]))
    added, before = write_drafts(options.out, drafts)
    there = f", {before} were there" if before else ""
    print(f"{added} plans drafted{there}: {options.out / 'plans.jsonl'}")
    for reason, count in skipped.items():
        print(f"{count} tasks without a plan: {reason}")


def _drafts(options: argparse.Namespace, skipped: Any) -> Iterable[PlanDraft]:
    from ...agents.plans import decomposition_drafts, episode_drafts, script_drafts
    from ..scripts import load_script
    from ..toml_tables import ConfigError

    source: str = options.source
    kind, _, rest = source.partition(":")
    if kind == "script":
        return script_drafts(
            rest, load_script(rest), _spec(options), tasks=options.tasks, seed=options.seed, skipped=skipped
        )
    if kind in ("model", "server"):
        return _model_drafts(options, kind, rest, skipped)
    path = Path(source)
    if path.is_dir():
        return islice(episode_drafts(path, right_only=options.right_only, skipped=skipped), options.tasks)
    if not path.exists():
        raise ConfigError(f"{source}: there is no such file or folder; a source is {_SOURCES}")
    instructions = _spec(options).make().instructions if options.env else ""
    return decomposition_drafts(path, options.tasks, instructions)


def _model_drafts(options: argparse.Namespace, kind: str, name: str, skipped: Any) -> Iterable[PlanDraft]:
    from ...agents.plans import model_drafts
    from ...envs import background_loop

    spec = _spec(options)
    agent = _agent(options, kind, name)
    return background_loop.run(
        model_drafts(
            name if kind == "model" else f"{options.model} at {name}",
            agent,
            spec,
            tasks=options.tasks,
            plans=options.plans,
            seed=options.seed,
            folder=options.out,
            skipped=skipped,
        )
    )


def _agent(options: argparse.Namespace, kind: str, name: str) -> ModelAgent:
    from ...agents.engine import SamplingParams
    from ..extras import import_extra
    from ..toml_tables import ConfigError

    sampling = SamplingParams(max_tokens=options.max_tokens, temperature=options.temperature)
    if kind == "model":
        import_extra("torch", "train")
        import_extra("transformers", "train")
        quiet_libraries()
        from ...agents.local_model import load_model_agent

        return load_model_agent(name, sampling=sampling)
    from ...agents.engines.chat_server import ChatServer
    from ...agents.engines.chat_server_agent import chat_server_agent

    if options.model is None:
        raise ConfigError("server:URL needs --model, the model's name at the server")
    try:
        return chat_server_agent(ChatServer(name, options.model, key_variable=options.key_variable), sampling=sampling)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _spec(options: argparse.Namespace) -> EnvSpec:
    from ...agents.env_spec import EnvSpec
    from ..toml_tables import ConfigError, apply_overrides

    if options.env is None:
        raise ConfigError(f"{options.source} needs --env, the environment whose tasks are planned")
    kwargs: dict[str, Any] = {}
    apply_overrides(kwargs, options.set)
    return EnvSpec(id=options.env, kwargs=kwargs)


def _review(options: argparse.Namespace) -> None:
    from ...agents.plans.review import ReviewServer

    with ReviewServer(options.folder, wanted=options.reviewers, port=options.port) as server:
        for problem in server.book.problems:
            print(f"left out: {problem}", file=sys.stderr)
        print(
            f"{len(server.book.drafts)} plans to review at\n{server.url}\nCtrl-C ends it; all is saved as it is typed."
        )
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\nreviews are in {options.folder / 'reviews.jsonl'}")


def _export(options: argparse.Namespace) -> None:
    from ...agents.plans import export_examples

    summary = export_examples(
        options.folder, options.out, accepted=options.accepted, rejected=options.rejected, spelling=options.spelling
    )
    print(f"{summary.written} plans exported to {options.out}")
    for reason, count in summary.left_out.items():
        print(f"{count} left out: {reason}")
    for problem in summary.problems:
        print(f"left out: {problem}", file=sys.stderr)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {value}")
    return value
