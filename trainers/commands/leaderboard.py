"""`forethought leaderboard`: run a suite, verify runs by replay, compare them, build the site."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agents import add_agent, agent_maker

if TYPE_CHECKING:
    from ...agents.leaderboard import Result

_MOST_FINDINGS = 200


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    leaderboard = commands.add_parser("leaderboard", help="run a suite, verify runs by replay, build the site")
    actions = leaderboard.add_subparsers(title="actions", required=True)
    _add_run(actions)

    verify = actions.add_parser("verify", help="play every episode of a run again and compute its numbers again")
    verify.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    verify.add_argument("--suite", help="the suite that they must answer; without it their own copy is believed")
    verify.add_argument("--model", help="folder of the model whose tokenizer made the contexts")
    verify.set_defaults(run=_verify)

    merge = actions.add_parser("merge", help="grade a run whose shards were made in several places")
    merge.add_argument("folder", type=Path, metavar="RUN")
    merge.set_defaults(run=_merge)

    compare = actions.add_parser("compare", help="compare two runs of one suite, task by task")
    compare.add_argument("first", type=Path, metavar="RUN")
    compare.add_argument("second", type=Path, metavar="RUN")
    compare.set_defaults(run=_compare)

    build = actions.add_parser("build", help="write the leaderboard as static pages")
    build.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help="run folders, or folders of run folders")
    build.add_argument("--out", type=Path, required=True, help="folder of the site")
    build.add_argument("--title", default="Leaderboard")
    build.add_argument("--suite", help="show runs of this suite only")
    build.add_argument("--verify", action="store_true", help="verify every run first; those that fail are not ranked")
    build.set_defaults(run=_build)


def _add_run(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = actions.add_parser("run", help="evaluate an agent on a suite; an interrupted run goes on")
    run.add_argument("suite", metavar="SUITE", help="the suite file, TOML or JSON")
    add_agent(run)
    run.add_argument("--out", type=Path, required=True, help="folder of the run; shards may share it")
    run.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/n", help="do part i of n")
    run.add_argument("--name", help="what the leaderboard calls it; the agent's own name by default")
    run.add_argument(
        "--prices",
        nargs="*",
        default=[],
        metavar="name=value",
        help="of a million tokens: input=0.5 output=1.5 unit=USD",
    )
    run.set_defaults(run=_run)


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash or not number.isdigit() or not count.isdigit() or not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError(f"expected i/n with 1 <= i <= n, such as 2/4, found {text!r}")
    return int(number), int(count)


def _run(options: argparse.Namespace) -> int:
    from ...agents.episode import Episode, Status
    from ...agents.leaderboard import AgentCard, load_suite, run_suite
    from ...agents.report import format_summary
    from ...agents.report.escape import one_line
    from ...agents.text_model import Prices
    from ...envs import background_loop
    from ..progress import Progress
    from ..toml_tables import ConfigError, apply_overrides

    suite = load_suite(options.suite)
    prices: dict[str, Any] = {}
    apply_overrides(prices, options.prices)
    unit = prices.pop("unit", "")
    if set(prices) - {"input", "output"} or not all(isinstance(value, int | float) for value in prices.values()):
        raise ConfigError(f"--prices takes input=NUMBER output=NUMBER unit=TEXT, found {' '.join(options.prices)}")
    maker = agent_maker(options, suite.max_turn_tokens)
    first = suite.entries[0].make()
    name = options.name or maker(first).name
    first.close()
    card = AgentCard(name=name, spec=options.agent, prices=Prices(**prices) if prices else None, unit=str(unit))
    shard, shards = options.shard
    counter = Progress(sys.stderr).counter(name, -(-suite.episodes() // shards))
    counts = {"done": 0, "faults": 0}

    def count(episode: Episode) -> None:
        counts["faults" if episode.status is Status.FAULT else "done"] += 1
        counter.show(sum(counts.values()), f"{counts['faults']} faults" if counts["faults"] else "")

    result = background_loop.run(
        run_suite(
            suite, maker, options.out, card=card, shard=shard, shards=shards, concurrency=options.concurrency,
            on_episode=count,
        )
    )  # fmt: skip
    if result is None:
        print(f"shard {shard} of {shards} is done in {options.out}; the result comes with the last one")
    else:
        print(f"\n{format_summary({entry.name: entry.card for entry in result.entries})}\n{_headline(result)}")
        print(one_line(f"suite {suite.name} {suite.version} {suite.sha256}"))
        print(f"the run is in {options.out}")
    if counts["faults"]:
        print(
            f"forethought: {counts['faults']} episodes ended in a fault of the infrastructure; the same command makes "
            "them again",
            file=sys.stderr,
        )
        return 1
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ...agents.leaderboard import load_suite, verify_run
    from ...agents.local_model import format_for
    from ...agents.report.escape import one_line

    suite = None if options.suite is None else load_suite(options.suite)
    form = None if options.model is None else format_for(options.model)
    failed = 0
    for folder in options.runs:
        found = verify_run(folder, suite=suite, model_format=form)
        for finding in found.findings[:_MOST_FINDINGS]:
            print(one_line(f"{folder}: {finding}"))
        if len(found.findings) > _MOST_FINDINGS:
            print(f"{folder}: and {len(found.findings) - _MOST_FINDINGS} more")
        how = f"{found.episodes} episodes played again, {found.by_token} of them token by token"
        verdict = "verified" if found.ok else f"NOT verified, {len(found.findings)} findings"
        print(one_line(f"{folder}: {verdict}: {found.agent} on {found.suite}: {how}"))
        failed += not found.ok
    if suite is None:
        print("no --suite was given: each run was checked against its own copy of its suite")
    return 1 if failed else 0


def _merge(options: argparse.Namespace) -> int:
    from ...agents.leaderboard import RunFiles, grade_run

    result = grade_run(RunFiles(options.folder))
    if result is None:
        print(
            f"forethought: {options.folder}: shards are missing or not finished; nothing was written", file=sys.stderr
        )
        return 1
    print(_headline(result))
    return 0


def _compare(options: argparse.Namespace) -> None:
    from ...agents.leaderboard import RunFiles, compare_results, read_result
    from ...agents.report.escape import one_line
    from ...agents.report.metrics import format_interval, format_p_value, format_value

    first, second = (read_result(RunFiles(folder)) for folder in (options.first, options.second))
    print(one_line(f"{second.agent.name} less {first.agent.name}"))
    for entry, parts in compare_results(first, second).items():
        for name, compared in parts.items():
            percent = name == "accuracy"
            told = f"{format_value(compared.difference, percent)} [{format_interval(compared.difference, percent)}]"
            line = f"  {entry}: {name.replace('_', ' ')} {told}, {format_p_value(compared.p_value)}"
            print(one_line(f"{line}, {compared.tasks} tasks"))


def _build(options: argparse.Namespace) -> int:
    from ...agents.leaderboard import load_suite
    from ...agents.leaderboard.site import build_site
    from ...agents.report.escape import one_line

    suite = None if options.suite is None else load_suite(options.suite)
    built = build_site(options.runs, options.out, title=options.title, suite=suite, verify=options.verify)
    for note in built.notes:
        print(one_line(note), file=sys.stderr)
    print(f"{built.shown} runs in {options.out / 'index.html'}")
    return 1 if built.notes else 0


def _headline(result: Result) -> str:
    from ...agents.report.escape import one_line
    from ...agents.report.metrics import format_interval, format_value

    interval = format_interval(result.accuracy, True)
    horizons = [
        f"{entry.name} {format_value(entry.horizon.steps) if entry.horizon.beyond is None else entry.horizon.beyond}"
        for entry in result.entries
        if entry.horizon is not None
    ]
    text = f"{result.agent.name}: accuracy {format_value(result.accuracy, True)} [{interval}]"
    return one_line(text + (f"; 50 % horizon: {', '.join(horizons)}" if horizons else ""))
