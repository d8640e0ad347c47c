"""`forethought replay`: replay the episodes of a run without its model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    replay = commands.add_parser("replay", help="replay the episodes of a run and compare observations and scores")
    replay.add_argument("folder", type=Path)
    replay.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    from ...agents.env_spec import EnvSpec
    from ...agents.episode_store import EpisodeStore
    from ...agents.replay import replay_episode
    from ...envs import background_loop

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
