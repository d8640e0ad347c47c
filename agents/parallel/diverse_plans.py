"""Plan-level diversity: different plans first, then one attempt that carries out each.

Attempts that are sampled independently often begin with the same plan. Here the plans of a task are sampled first,
until there are as many different ones as attempts, and the first turn of each attempt goes on from a plan of its own.
The tokens of a plan are those that the policy sampled, with their log-probabilities, so the episodes are ordinary
ones: they replay and are graded like all others. They are no sample of the policy's own distribution, because plans
that came twice were thrown away: do not train on them as on-policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ...envs.sub_models import SubTaskEnv
from ...envs.tasks import Task, TaskSet
from ...envs.tool_env import ToolEnv
from ..agent import ModelAgent
from ..engine import Engine, FinishReason, Sample, SamplingParams
from ..env_spec import EnvSpec
from ..episode import Episode
from ..episode_store import EpisodeStore, EpisodeWriter
from ..evaluation import ReportCard, make_report_card
from ..evaluation.evaluate import claim_folder, describe_evaluation, missing_requests, write_json
from ..rollouts import run_rollouts
from ..text_model import Prices
from .attempts import Spent
from .plan_drafts import DraftedPlan, draft_plans, read_drafts


async def evaluate_diverse_plans(
    spec: EnvSpec,
    agent: ModelAgent,
    tasks: Sequence[Task] | TaskSet,
    *,
    attempts: int,
    seed: int,
    folder: str | Path,
    concurrency: int = 256,
    on_episode: Callable[[Episode], None] | None = None,
) -> ReportCard:
    """As `evaluate`, with different plans for the attempts at a task.

    `plans.jsonl` in the folder keeps the plans of each task. Where a policy has fewer different plans than there are
    attempts, they take turns; where it has none, the attempts are ordinary ones. The engine must be able to go on from
    the beginning of a turn, so not a chat-only server.

    Args:
        spec: The environment.
        agent: The policy.
        tasks: What is asked; ids must differ.
        attempts: Episodes of each task.
        seed: Seeds environments, sampling and the intervals.
        folder: Where the run is kept; killed at any moment, the same call goes on.
        concurrency: Most episodes in flight.
        on_episode: Called with each episode once it is on disk.

    Raises:
        ParallelError: the environment's protocol has no plans.
        EvaluationError: as `evaluate`.
        InfrastructureFault: the engine failed while plans were sampled; those on disk are kept.
    """
    folder = Path(folder)
    named = replace(agent, name=f"{agent.name}, different plans")
    claim_folder(folder, describe_evaluation(spec, named, tasks, attempts=attempts, seed=seed))
    with EpisodeWriter(folder) as writer:
        missing = list(missing_requests(tasks, attempts, seed, writer.finished))
        first = {request.task.id: request for request in reversed(missing)}
        drafts = await draft_plans(spec, agent, list(first.values()), attempts, folder / "plans.jsonl", concurrency)
        for number in range(attempts):
            requests = [request for request in missing if request.attempt == number]
            plans = {task: plan for task, drafted in drafts.items() if (plan := drafted.of_attempt(number)) is not None}
            planned = _PlannedAgent(**{f.name: getattr(named, f.name) for f in fields(ModelAgent)}, plans=plans)
            in_flight = min(concurrency, max(1, len(requests)))
            async with aclosing(run_rollouts(requests, spec, planned, concurrency=in_flight)) as episodes:  # type: ignore[type-var]
                async for episode in episodes:
                    writer.append(episode)
                    if on_episode is not None:
                        on_episode(episode)
    card = make_report_card(EpisodeStore(folder), seed=seed)
    write_json(folder / "report_card.json", card.to_dict())
    return card


def plan_costs(folder: str | Path, attempts: int, prices: Prices | None = None) -> dict[str, Spent]:
    """What the plans of a run cost besides the tokens that its episodes hold, by episode, for `grade_parallel`.

    What was thrown away is shared out evenly over the attempts at a task. All of them waited for the last plan.

    Args:
        folder: The run's folder.
        attempts: Attempts at each task.
        prices: What the policy's tokens cost.
    """
    prices, costs = prices or Prices(), {}
    for task, drafts in read_drafts(Path(folder) / "plans.jsonl").items():
        plans = [drafts.of_attempt(number) for number in range(attempts)]
        used = [0 if plan is None else len(plan.token_ids) for plan in plans]
        unused = drafts.sampled_tokens - sum(used)
        for number in range(attempts):
            costs[f"{task}/{number}"] = Spent(
                sampled_tokens=unused / attempts,
                critical_tokens=drafts.critical_tokens - used[number],
                cost=prices.cost(drafts.read_tokens, unused) / attempts,
            )
    return costs


@dataclass(kw_only=True)
class _PlannedAgent(ModelAgent):
    """A model whose first turn goes on from a given plan."""

    plans: Mapping[str, DraftedPlan] = field(default_factory=dict)
    """By task id."""

    def engine_for(self, env: ToolEnv) -> Engine:
        """The shared engine, which is given the plan to begin with."""
        plan = None if isinstance(env, SubTaskEnv) else self.plans.get(env.task.id)
        return self.engine if plan is None else _PlannedEngine(self.engine, plan)


class _PlannedEngine:
    """One episode's view of an engine: its first sample begins with a plan that was sampled before."""

    def __init__(self, engine: Engine, plan: DraftedPlan) -> None:
        self.context_limit = engine.context_limit
        self._engine = engine
        self._plan: DraftedPlan | None = plan

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        plan, self._plan = self._plan, None
        if plan is None:
            return await self._engine.sample(prompt_ids, params, session=session)
        room = params.max_tokens - len(plan.token_ids)
        if room < 1:
            most = params.max_tokens
            return Sample(plan.token_ids[:most], plan.logprobs[:most], FinishReason.LENGTH)
        rest = await self._engine.sample(
            [*prompt_ids, *plan.token_ids], replace(params, max_tokens=room), session=session
        )
        return Sample(plan.token_ids + rest.token_ids, plan.logprobs + rest.logprobs, rest.finish_reason)

    def release(self, session: str) -> None:
        self._engine.release(session)

    async def close(self) -> None:
        await self._engine.close()
