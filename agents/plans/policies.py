"""Plans that policies write: a script, the policy of a finished run, or a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...envs.protocol import Mode, Plan, SectionKind, Spelling, codec_for, parse_turn
from ...envs.protocol.errors import ContentError
from ...envs.tasks import Task
from ...envs.tool_env import ToolEnv
from ..agent import ModelAgent, Script
from ..env_spec import EnvSpec
from ..episode import Episode
from ..episode_store import EpisodeStore
from ..parallel.plan_drafts import draft_plans
from ..rollout import EpisodeRequest
from .drafts import DraftKind, PlanDraft, Provenance, new_draft
from .errors import PlanError
from .steps import plan_to_rows

Skipped = Callable[[str, str], None]
"""Told of each task without a plan: its id, and why."""


def script_drafts(
    name: str, script: Script, spec: EnvSpec, *, tasks: int, seed: int, skipped: Skipped
) -> Iterator[PlanDraft]:
    """The plan with which a script opens its first turn, for the first `tasks` tasks of an environment."""
    env = spec.make()
    _check_mode(env, spec)
    for number, task in enumerate(env.tasks.head(tasks)):
        env.reset(seed=seed + number, options={"task": task})
        running = script(env)
        text = next(running, "")
        running.close()
        provenance = _provenance(DraftKind.SCRIPT, name, name.rpartition(":")[2], text, env, spec)
        draft = _draft(env, task, text, provenance, 0, skipped)
        if draft is not None:
            yield draft


def episode_drafts(folder: str | Path, *, right_only: bool, skipped: Skipped) -> Iterator[PlanDraft]:
    """The first plan of each episode of a run.

    Args:
        folder: The run's folder.
        right_only: Leave out episodes whose answer was not right (score `correct` below 1).
        skipped: Told of episodes without a plan.

    Raises:
        StoreError: there are no episodes, or they are damaged.
        EnvSpecError: the environment of an episode cannot be made.
    """
    env, made_from = None, None
    for episode in EpisodeStore(folder):
        if right_only and episode.scores.get("correct", 0.0) < 1.0:
            skipped(episode.id, "its answer was not right")
        elif not episode.plans or episode.task_of(episode.turns[episode.plans[0].turn].segment) != 0:
            skipped(episode.id, "it has no plan")
        elif not all(step["text"] for step in episode.plans[0].steps):
            skipped(episode.id, "a step of its plan is empty")
        else:
            if env is None or episode.env != made_from:
                env, made_from = EnvSpec(id=episode.env["id"], kwargs=episode.env["kwargs"]).make(), episode.env
            yield _draft_of_episode(episode, env, folder)


async def model_drafts(
    name: str, agent: ModelAgent, spec: EnvSpec, *, tasks: int, plans: int, seed: int, folder: Path, skipped: Skipped
) -> list[PlanDraft]:
    """Up to `plans` different plans of a model for each of the first `tasks` tasks; sampled ones are kept in `folder`.

    Raises:
        PlanError: the environment has no plans.
        InfrastructureFault: the model cannot be reached; what was sampled is kept.
    """
    env = spec.make()
    _check_mode(env, spec)
    chosen = list(env.tasks.head(tasks))
    requests = [EpisodeRequest(task=task, seed=seed + number) for number, task in enumerate(chosen)]
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{name}\n{spec!r}\n{seed}\n{plans}"
    path = folder / f"sampled-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsonl"
    sampled = await draft_plans(spec, agent, requests, plans, path, concurrency=64)
    drafts = []
    for task, request in zip(chosen, requests, strict=True):
        found = sampled[task.id].plans
        if not found:
            skipped(task.id, "the model wrote no plan")
        env.reset(seed=request.seed, options={"task": task})
        for number, plan in enumerate(found):
            text = "".join(agent.format.tokenizer.pieces(plan.token_ids))
            provenance = _provenance(DraftKind.MODEL, name, agent.name, text, env, spec)
            draft = _draft(env, task, text, provenance, number, skipped)
            if draft is not None:
                drafts.append(draft)
    return drafts


def first_plan(text: str, spelling: Spelling | str) -> tuple[Plan, str] | None:
    """The plan with which a turn opens and the rest of the turn; None when it opens with none that can be read."""
    codec = codec_for(spelling)
    turn = parse_turn(text, codec)
    if not turn.sections or turn.sections[0].kind is not SectionKind.PLAN:
        return None
    try:
        return codec.read_plan(turn.sections[0].text), text[turn.sections[0].end :]
    except ContentError:
        return None


def _draft(
    env: ToolEnv, task: Task, text: str, provenance: Provenance, number: int, skipped: Skipped
) -> PlanDraft | None:
    found = first_plan(text, env.codec.spelling)
    if found is None:
        skipped(task.id, "its first turn does not open with a plan")
        return None
    if not all(step.text for step in found[0].steps):
        skipped(task.id, "a step of its plan is empty")
        return None
    return new_draft(task, env.instructions, env.task_prompt(), plan_to_rows(found[0]), provenance, number)


def _draft_of_episode(episode: Episode, env: ToolEnv, folder: str | Path) -> PlanDraft:
    task = Task.from_row(episode.task, f"episode {episode.id}")
    env.summaries = episode.window.get("policy") == "learned"
    env.reset(seed=episode.seed, options={"task": task})
    plan = episode.plans[0]
    provenance = Provenance(
        kind=DraftKind.EPISODES,
        source=f"{os.path.normpath(folder)} {episode.id}",
        author=Path(folder).resolve().name,
        original=episode.turns[plan.turn].text,
        spelling=str(env.codec.spelling),
        env=episode.env,
    )
    return new_draft(task, env.instructions, env.task_prompt(), plan.steps, provenance, episode.attempt)


def _provenance(kind: DraftKind, source: str, author: str, text: str, env: ToolEnv, spec: EnvSpec) -> Provenance:
    return Provenance(
        kind=kind,
        source=source,
        author=author,
        original=text,
        spelling=str(env.codec.spelling),
        env=spec.describe(env),
    )


def _check_mode(env: ToolEnv, spec: EnvSpec) -> None:
    if env.mode is Mode.BARE:
        raise PlanError(f"{spec.id} in mode 'bare' has no plans: choose mode=plan")
