"""Plans of a task that differ, sampled before the task is attempted."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from zlib import crc32

from ...envs.answers import normalize_answer
from ...envs.protocol import Mode, SectionKind
from ...envs.protocol.codecs import MARKERS
from ...envs.protocol.errors import ContentError
from ...envs.tool_env import ToolEnv
from ..agent import ModelAgent
from ..engine import Sample, SamplingParams
from ..env_spec import EnvSpec
from ..rollout import EpisodeRequest
from .errors import ParallelError

_Steps = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedPlan:
    """A turn up to the end of its plan, as the policy sampled it."""

    token_ids: list[int]
    logprobs: list[float]


@dataclass(slots=True, kw_only=True)
class PlanDrafts:
    """The plans of one task."""

    task_id: str
    plans: list[DraftedPlan] = field(default_factory=list)
    """No two with the same steps."""
    candidates: int = 0
    """Sampled, those that came twice or were no plan included."""
    sampled_tokens: int = 0
    """Of all candidates."""
    read_tokens: int = 0
    critical_tokens: int = 0
    """Of the longest candidate of each round: rounds follow one another."""

    def of_attempt(self, number: int) -> DraftedPlan | None:
        """The plan of an attempt; None where there is none."""
        return self.plans[number % len(self.plans)] if self.plans else None


async def draft_plans(
    spec: EnvSpec, agent: ModelAgent, requests: Sequence[EpisodeRequest], count: int, path: Path, concurrency: int
) -> dict[str, PlanDrafts]:
    """Sample up to `count` different plans for the task of each request; those that `path` holds are not sampled again.

    Raises:
        ParallelError: the environment's protocol has no plans, or `path` is damaged.
        InfrastructureFault: the engine failed; what is finished is in `path`.
    """
    drafts = read_drafts(path)
    env = spec.make()
    try:
        if env.mode is Mode.BARE:
            raise ParallelError(f"{spec.id} in mode 'bare' has no plans: choose mode 'plan' or 'think'")
        room = asyncio.Semaphore(max(1, concurrency // count))
        with path.open("ab", buffering=0) as file:

            async def draft(request: EpisodeRequest) -> None:
                async with room:
                    drafted = await _draft(env, agent, request, count)
                drafts[drafted.task_id] = drafted
                file.write(json.dumps(asdict(drafted)).encode("ascii") + b"\n")

            drafting = [asyncio.create_task(draft(r)) for r in requests if r.task.id not in drafts]
            try:
                await asyncio.gather(*drafting)
            finally:
                for task in drafting:
                    task.cancel()
    finally:
        await env.close_async()
    return drafts


def read_drafts(path: Path) -> dict[str, PlanDrafts]:
    """The plans on disk, by task; what a killed writer left of a line is cut off.

    Raises:
        ParallelError: a line is damaged.
    """
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    drafts = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            row["plans"] = [DraftedPlan(**plan) for plan in row["plans"]]
            drafts[row["task_id"]] = PlanDrafts(**row)
        except (ValueError, TypeError, KeyError):
            raise ParallelError(f"{path}, line {number}: not the plans of a task; delete the file's folder") from None
    return drafts


async def _draft(env: ToolEnv, agent: ModelAgent, request: EpisodeRequest, count: int) -> PlanDrafts:
    """Sample `count` plans at a time until so many differ, or until a round brings none that is new."""
    env.summaries = agent.window.summaries
    env.reset(seed=request.seed, options={"task": request.task})
    opening = agent.format.opening(env)
    most = min(agent.sampling.max_tokens, agent.engine.context_limit - len(opening))
    tokens_left = env.tokens_left()
    most = most if tokens_left is None else min(most, tokens_left)
    drafts = PlanDrafts(task_id=request.task.id)
    found: dict[_Steps, DraftedPlan] = {}
    before = -1
    while most > 0 and before < len(found) < count:
        before = len(found)
        numbers = range(drafts.candidates, drafts.candidates + count)
        samples = await asyncio.gather(
            *(agent.engine.sample(opening, _params(agent, request, number, most)) for number in numbers)
        )
        drafts.candidates += len(samples)
        drafts.read_tokens += len(samples) * len(opening)
        drafts.sampled_tokens += sum(len(sample.token_ids) for sample in samples)
        drafts.critical_tokens += max(len(sample.token_ids) for sample in samples)
        for sample in samples:
            _add(found, env, agent, sample)
    drafts.plans = list(found.values())[:count]
    return drafts


def _params(agent: ModelAgent, request: EpisodeRequest, number: int, most: int) -> SamplingParams:
    """Sampling ends with the plan where its end is one token, else with the turn."""
    end = agent.format.tokenizer.encode_turn(MARKERS[SectionKind.PLAN][1])
    seed = crc32(f"plan/{request.seed}/{request.task.id}/{number}".encode(errors="backslashreplace"))
    stops = (*agent.format.stop_token_ids, *(end if len(end) == 1 else ()))
    return replace(agent.sampling, max_tokens=most, stop_token_ids=stops, seed=seed)


def _add(found: dict[_Steps, DraftedPlan], env: ToolEnv, agent: ModelAgent, sample: Sample) -> None:
    """Keep a plan whose steps are new."""
    ended = sample.token_ids[-1:] and sample.token_ids[-1] in agent.format.stop_token_ids
    turn = env.parse(agent.format.tokenizer.pieces(sample.token_ids[:-1] if ended else sample.token_ids))
    if not turn.sections or turn.sections[0].kind is not SectionKind.PLAN:
        return
    with suppress(ContentError):
        plan = env.codec.read_plan(turn.sections[0].text)
        steps = tuple((normalize_answer(step.text) or step.text.lower(), step.after) for step in plan.steps)
        end = turn.sections[0].token_end
        found.setdefault(steps, DraftedPlan(token_ids=sample.token_ids[:end], logprobs=sample.logprobs[:end]))
