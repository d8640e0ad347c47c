"""One episode or sub-task in progress: the policy and the environment in turns, over one or more contexts."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field, replace

from ..envs.sub_models import SELF, SubTaskEnv
from ..envs.tool_env import StepOutcome, ToolEnv
from ..envs.tools import SubAnswer
from .agent import Agent
from .context_window import WindowPolicy
from .engine import Sample
from .episode import PlanVersion, SectionSpan, Segment, SegmentKind, Turn


@dataclass(slots=True)
class Branch:
    """What is kept of an episode or sub-task: its segments, turns and plans, those of its sub-tasks included."""

    segments: list[Segment] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    plans: list[PlanVersion] = field(default_factory=list)
    context_tokens: int = 0
    """Tokens that the policy read and sampled, summed over its turns."""

    def graft(self, child: Branch, segment: int, position: int) -> int:
        """Take a sub-task in that was handed out at a position of a segment; returns its first segment's number."""
        first, turns_before = len(self.segments), len(self.turns)
        for grafted in child.segments:
            if grafted.parent is None:
                grafted.kind, grafted.parent = SegmentKind.SUB_CALL, (segment, position)
            else:
                grafted.parent = (grafted.parent[0] + first, grafted.parent[1])
        for turn in child.turns:
            turn.segment += first
            for call in turn.calls:
                if call.child is not None:
                    call.child += first
        for plan in child.plans:
            plan.turn += turns_before
        self.segments += child.segments
        self.turns += child.turns
        self.plans += child.plans
        self.context_tokens += child.context_tokens
        return first


class ContextRun:
    """Runs one episode or sub-task to its end.

    Args:
        env: Its environment, after `reset`.
        agent: The policy.
        session: Names it for the engine.
        seed: Seeds the sampling of its turns, together with their number.
    """

    def __init__(self, env: ToolEnv, agent: Agent, session: str, seed: str) -> None:
        self.branch = Branch()
        self._env = env
        self._agent = agent
        self._session = session
        self._seed = seed
        self._form = agent.format
        self._engine = agent.engine_for(env)
        self._limits = agent.window.within(self._engine.context_limit)
        self._request = env.codec.summary_request
        self._reserve = 0
        if agent.window.summaries:
            self._reserve = self._limits.summary + len(self._form.observation(self._request, False))
        self._sub_tasks: list[Branch] = []
        """Of the turn that is being carried out."""
        self._plan_ids: list[int] = []
        """The sampled tokens of the plan in force."""
        self._held: str | None = None
        """The observation that waits until the summary is written; not None means that a summary is due."""
        self._turns = 0
        self._turn_starts: list[int] = []
        """Where in the segment each turn begins that it holds, sampled or kept."""
        self._contexts = 0
        env.answer_sub_task = self._answer_sub_task
        self._begin(self._form.opening(env), SegmentKind.ROOT, None)

    async def run(self) -> StepOutcome:
        """Sample turns and step the environment until the episode or sub-task ends."""
        try:
            outcome = None
            while outcome is None:
                outcome = await self._turn()
            return outcome
        finally:
            self._engine.release(self._session)

    async def _turn(self) -> StepOutcome | None:
        """Sample and carry out one turn; the last one gives the outcome."""
        env, segment = self._env, self._segment
        full = len(segment.token_ids) + (0 if self._held is not None else self._reserve) >= self._limits.limit
        tokens_left = env.tokens_left()
        if full or (tokens_left is not None and tokens_left <= 0):
            return env.truncate("context" if full else "sampled_tokens")
        asked = time.perf_counter()
        sample = await self._sample(tokens_left)
        sampled = time.perf_counter()
        ended = bool(sample.token_ids) and sample.token_ids[-1] in self._form.stop_token_ids
        pieces = self._form.tokenizer.pieces(sample.token_ids[:-1] if ended else sample.token_ids)
        parsed = env.parse(pieces, summary_due=self._held is not None)
        outcome = await env.step_async(parsed, sampled_tokens=len(sample.token_ids))
        turn = self._record(sample, outcome)
        turn.sampling_seconds, turn.seconds = sampled - asked, time.perf_counter() - sampled
        if outcome.terminated or outcome.truncated:
            return outcome
        if parsed.summary is not None and parsed.error is None:
            return self._restart(sample, outcome)
        return self._go_on(outcome.observation, ended)

    async def _sample(self, tokens_left: int | None) -> Sample:
        context = self._segment.token_ids
        room = self._limits.limit - len(context) - (0 if self._held is not None else self._reserve)
        params = replace(
            self._agent.sampling,
            max_tokens=min(self._agent.sampling.max_tokens, room, tokens_left or room),
            stop_token_ids=self._form.stop_token_ids,
            seed=zlib.crc32(f"{self._seed}/{self._turns}".encode(errors="backslashreplace")),
        )
        sample = await self._engine.sample(context, params, session=self._session)
        self.branch.context_tokens += len(context) + len(sample.token_ids)
        return sample

    def _record(self, sample: Sample, outcome: StepOutcome) -> Turn:
        """Keep the turn, and the sub-tasks that it handed out after it."""
        segment, parsed, branch = self._segment, outcome.turn, self.branch
        start = len(segment.token_ids)
        segment.append_sampled(sample.token_ids, sample.logprobs)
        segment.sections += [
            SectionSpan(str(s.kind), start + s.token_start, start + s.token_end) for s in parsed.sections
        ]
        if parsed.plan is not None and parsed.error is None:
            written = parsed.sections[0]
            self._plan_ids = sample.token_ids[written.token_start : written.token_end]
            steps = [{"number": s.number, "text": s.text, "after": list(s.after)} for s in parsed.plan.steps]
            branch.plans.append(PlanVersion(turn=len(branch.turns), steps=steps))
        turn = Turn(
            text=parsed.text,
            observation=outcome.observation,
            segment=self._current,
            start=start,
            end=len(segment.token_ids),
            calls=outcome.calls,
            error=outcome.info["error"],
        )
        branch.turns.append(turn)
        self._turns += 1
        self._turn_starts.append(start)
        for call in turn.calls:
            if call.child is not None:
                call.child = branch.graft(self._sub_tasks[call.child], self._current, turn.end)
        self._sub_tasks = []
        return turn

    def _follow(self, token_ids: list[int], kind: SegmentKind) -> StepOutcome | None:
        """Go on in a new segment; an outcome when that is one too many, or has no room for a turn."""
        if self._contexts == self._agent.window.segments:
            return self._env.truncate("segments")
        if len(token_ids) + self._limits.turn + self._reserve > self._limits.limit:
            return self._env.truncate("context")
        self._begin(token_ids, kind, (self._current, len(self._segment.token_ids)))
        return None

    def _begin(self, token_ids: list[int], kind: SegmentKind, parent: tuple[int, int] | None) -> None:
        self._segment = Segment(kind=kind, parent=parent)
        self._segment.give(token_ids)
        self._current = len(self.branch.segments)
        self._contexts += 1
        self._turn_starts = []
        self.branch.segments.append(self._segment)

    def _go_on(self, observation: str, ended: bool) -> StepOutcome | None:
        """Give the policy what the environment said, in this context or the next."""
        ids = self._form.observation(observation, ended)
        length = len(self._segment.token_ids) + len(ids)
        policy = self._agent.window.policy
        if self._held is not None or policy is WindowPolicy.NONE:
            if length >= self._limits.limit:
                return self._env.truncate("context")
        elif length + self._limits.turn + self._reserve > self._limits.limit:
            if policy is not WindowPolicy.LEARNED:
                return self._trim(ids)
            self._held, self._env.observation = observation, self._request
            ids = self._form.observation(self._request, ended)
        self._segment.give(ids)
        return None

    def _restart(self, sample: Sample, outcome: StepOutcome) -> StepOutcome | None:
        """Go on after a summary: task, plan, summary, and the observation that was held back."""
        written = outcome.turn.sections[-1]
        summary = sample.token_ids[written.token_start : written.token_end]
        if self._agent.intervention is not None:
            summary = self._agent.intervention.summary(self._env.root.task.id, summary)
        carried = [self._plan_ids, summary]
        held, self._held = self._held or "", None
        self._env.observation = self._env.codec.join(outcome.observation, held)
        return self._follow(self._form.opening(self._env, carried, held), SegmentKind.AFTER_SUMMARY)

    def _trim(self, observation: list[int]) -> StepOutcome | None:
        """Go on without the oldest turns; however little fits, the turn that was just answered is kept."""
        window, limits = self._agent.window, self._limits
        history = self._segment.token_ids + observation
        keeps_recent = window.policy is WindowPolicy.KEEP_RECENT
        opening = self._form.opening(self._env, [self._plan_ids] if keeps_recent else ())
        room = (limits.limit - limits.turn if keeps_recent else limits.limit // 2) - len(opening)
        starts = self._turn_starts[-window.recent :] if keeps_recent else self._turn_starts
        start = next((start for start in starts if len(history) - start <= room), starts[-1])
        kept = [s - start + len(opening) for s in self._turn_starts if s >= start]
        outcome = self._follow(opening + history[start:], SegmentKind.TRIMMED)
        self._turn_starts = kept
        return outcome

    async def _answer_sub_task(self, env: SubTaskEnv, model: str) -> SubAnswer:
        """Have a sub-task of this turn answered: by the policy itself in a fresh context, or by a frozen model."""
        if model != SELF:
            answer = await self._agent.sub_models[model].answer(env.task.prompt)
            return SubAnswer(
                model=model, text=answer.text, sampled_tokens=answer.output_tokens, cost=answer.cost
            )  # fmt: skip
        run = ContextRun(env, self._agent, f"{self._session}/{env.number}", f"{self._seed}/{env.number}")
        number = len(self._sub_tasks)
        self._sub_tasks.append(run.branch)
        outcome = await run.run()
        text = outcome.turn.answer if outcome.terminated else None
        if self._agent.intervention is not None:
            text = self._agent.intervention.answer(env.root.task.id, text)
        return SubAnswer(
            model=SELF,
            text=text,
            stop_reason=outcome.info["stop_reason"],
            sampled_tokens=env.usage.sampled_tokens,
            child=number,
        )
