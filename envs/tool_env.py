"""`ToolEnv`: the Gymnasium environment that every family builds on."""

from __future__ import annotations

import asyncio
import operator
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
from gymnasium.error import ResetNeeded

from . import background_loop
from .budgets import Budget, Usage
from .instructions import protocol_rules
from .loops import LoopDetector
from .protocol import Call, Codec, Mode, ParsedTurn, Plan, Spelling, codec_for, parse_tokens, parse_turn
from .spaces import AnyText
from .summaries import check_summary
from .tasks import Task, TaskSet, as_task_set
from .tools import CallResult, SubAnswer, Tool, Toolbox, marked_tools

if TYPE_CHECKING:
    from .sub_models import SubTaskEnv

    AnswerSubTask = Callable[[SubTaskEnv, str], Awaitable[SubAnswer]]


@dataclass(slots=True, kw_only=True)
class StepOutcome:
    """What one step gives a rollout: Gymnasium's five values, and how the turn was read."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    turn: ParsedTurn
    calls: list[CallResult]


class ToolEnv(gymnasium.Env[str, str]):
    """An environment whose observations and actions are text, with tools, budgets and the plan protocol.

    An author gives `score`, usually tools (methods marked `@tool`), and a task set. `reset` gives the instructions and
    the task; `step(turn)` gives the observation that answers the turn. A malformed turn is answered by an observation
    that says what was expected. The episode terminates with an answer and is truncated by a budget; the reward, the
    weighted sum of the named scores, comes with the last step. Same task, same seed, same turns: same observations and
    same score.

    `info` holds `scores` (named parts, filled at the end), `usage`, `error` (kind of the format error or None),
    `stop_reason` (None while the episode goes on) and `task_id`.

    Args:
        tasks: A task set, tasks, or the path of a JSON Lines file of tasks.
        mode: Which sections the protocol asks for and allows.
        spelling: How plans and calls are written.
        budget: Limits of one episode (a `Budget` or its fields).
        extra_tools: Typed functions that join the tools that the class defines.
        sub_models: Names of the sub-models that the policy may ask (`self` is the policy itself in a fresh context): it
            gets the tool `ask`. A rollout brings the models.
        summaries: Whether a turn may be a summary, after which the context restarts; a rollout sets it to what the
            agent's context window allows.
        max_output: Characters of one tool output that the policy reads.
        score_weights: What each named score counts for in the reward, in place of the class's.
        render_mode: `ansi` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]
    version: ClassVar[str] = "1"
    """Changes whenever the same turns could give other observations or scores."""
    score_weights: ClassVar[Mapping[str, float]] = {"correct": 1.0}
    """What each named score counts for in the reward; scores that are not named are reported only."""

    def __init__(
        self,
        tasks: TaskSet | Iterable[Task] | str | Path,
        *,
        mode: Mode | str = Mode.PLAN,
        spelling: Spelling | str = Spelling.JSON,
        budget: Budget | Mapping[str, Any] | None = None,
        extra_tools: Iterable[Callable[..., Any]] = (),
        sub_models: Sequence[str] = (),
        summaries: bool = False,
        max_output: int = 8000,
        score_weights: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.tasks = as_task_set(tasks)
        if len(self.tasks) == 0:
            raise ValueError(f"{type(self).__name__} needs at least one task, found an empty task set")
        self.mode = Mode(mode)
        self.codec: Codec = codec_for(spelling)
        self.budget = budget if isinstance(budget, Budget) else Budget(**(budget or {}))
        self.toolbox = Toolbox([*marked_tools(self), *map(Tool.from_function, extra_tools)], max_output)
        self.sub_models = tuple(sub_models)
        self.summaries = summaries
        self.weights = dict(self.score_weights if score_weights is None else score_weights)
        """What each named score counts for in this instance's reward."""
        self.render_mode = render_mode
        self.observation_space = AnyText()
        self.action_space = AnyText()
        self.clock: Callable[[], float] = time.monotonic
        """Where the seconds of the budget come from; a replay puts the recorded ones here."""
        self.parent: ToolEnv | None = None
        """The environment whose policy handed out this sub-task; None for an episode's own environment."""
        self.answer_sub_task: AnswerSubTask | None = None
        """Has a sub-task answered by the sub-model of that name; a rollout puts its own here."""
        self.asked = 0
        """Sub-tasks that the policy handed out in this episode."""
        self.asked_in_turn = 0
        self.observation = ""
        """The last observation."""
        self.turn = ParsedTurn("")
        """The last turn, as it was read."""
        if self.sub_models:
            from .sub_models import ask_tool  # a sub-task is a ToolEnv again

            self.toolbox.add([ask_tool(self)])
        self._instructions: dict[bool, str] = {}
        self._judges = type(self).judge is not ToolEnv.judge
        self._task: Task | None = None
        self._plan: Plan | None = None
        self.usage = Usage()
        """What the episode has used so far."""
        self._transcript: list[str] = []
        self._started = 0.0
        self._loops = LoopDetector(None)
        self._done = True

    @abstractmethod
    def score(self, answer: str | None) -> dict[str, float]:
        """Named scores of the finished episode; `answer` is None when a budget ended it.

        Every score must be a pure function of the task and of what happened in the episode.
        """

    async def judge(self, answer: str) -> None:
        """Called before `score` when the policy answers: for what scoring has to wait for, such as a sandbox."""

    async def close_async(self) -> None:
        """`close` for callers inside an event loop."""
        self.close()

    def task_prompt(self) -> str:
        """What the policy is asked; the task's prompt unless an environment says more."""
        return self.task.prompt

    def begin(self) -> None:
        """Called at the end of `reset`: set up what belongs to one episode."""

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        if self._task is None:
            raise ResetNeeded("call reset() before asking for the task")
        return self._task

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._plan

    @property
    def depth(self) -> int:
        """How many sub-tasks this one lies in; 0 for an episode's own environment."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def root(self) -> ToolEnv:
        """The episode's own environment."""
        return self if self.parent is None else self.parent.root

    @property
    def instructions(self) -> str:
        """What a model that was not trained on this environment must be told; empty for `words`."""
        known = self._instructions.get(self.summaries)
        if known is None:
            tools = self.toolbox.declarations()
            known = self.codec.instructions(protocol_rules(self.mode, bool(tools), self.summaries), tools)
            self._instructions[self.summaries] = known
        return known

    @property
    def opening(self) -> str:
        """The text with which a context begins: the instructions and the task."""
        prompt, instructions = self.task_prompt(), self.instructions
        return f"{instructions}\n\n{prompt}" if instructions else prompt

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds this instance's own random generator.
            options: `{"task": ...}` chooses the task: an index, a `Task` or a row; without it one is drawn.
        """
        super().reset(seed=seed)
        self._task = self._choose_task(options)
        self._plan = None
        self.usage = Usage(parent=None if self.parent is None else self.parent.usage)
        self.asked = self.asked_in_turn = 0
        self._loops = LoopDetector(self.budget.repeats)
        self._done = False
        self._transcript = []
        self._started = self.clock() if self.parent is None else self.parent._started
        self.begin()
        self.observation = self.opening
        if self.render_mode == "ansi":
            self._transcript.append(self.observation)
        return self.observation, self._info({}, None, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answer a turn. Tools that may hang run on a background loop, so this works inside a running loop too."""
        turn = self._read(action)
        if turn.calls and turn.error is None:
            if all(self.toolbox.runs_inline(call) for call in turn.calls):
                results = [self.toolbox.run_inline(call) for call in self._allowed(turn)]
            else:
                results = background_loop.run(self._run_calls(turn))
        else:
            results = []
        if self._judges and turn.answer is not None and turn.error is None:
            background_loop.run(self.judge(turn.answer))
        outcome = self._answer(turn, results, None)
        return outcome.observation, outcome.reward, outcome.terminated, outcome.truncated, outcome.info

    async def step_async(self, turn: ParsedTurn | str, *, sampled_tokens: int | None = None) -> StepOutcome:
        """The same step for rollouts: the calls of one turn run concurrently.

        Args:
            turn: The text, or the turn as `parser()` read it.
            sampled_tokens: Tokens that the policy sampled for it; without a number, words are counted.
        """
        parsed = self._read(turn)
        results = await self._run_calls(parsed) if parsed.calls and parsed.error is None else []
        if self._judges and parsed.answer is not None and parsed.error is None:
            await self.judge(parsed.answer)
        return self._answer(parsed, results, sampled_tokens)

    def tokens_left(self) -> int | None:
        """Sampled tokens that the budget still allows; None without such a budget."""
        limit = self.budget.sampled_tokens
        return None if limit is None else limit - self.usage.tree.sampled_tokens

    def truncate(self, reason: str) -> StepOutcome:
        """End the episode from outside, for a limit that the environment does not know (the context is full)."""
        if self._done:
            raise ResetNeeded("the episode is over or has not begun: there is nothing to truncate")
        return self._end(reason, ParsedTurn(""), [], "", None)

    def parse(self, pieces: list[str], *, summary_due: bool = False) -> ParsedTurn:
        """Read the next turn, given the text of each of its tokens; `summary_due`: it can only be a summary."""
        turn = parse_tokens(pieces, self.codec, self.mode, self._plan is None)
        check_summary(turn, self.summaries, summary_due)
        return turn

    def vocabulary(self) -> list[str]:
        """Every word of the tasks and observations, for models trained from scratch on the spelling `words`."""
        raise ValueError(f"{type(self).__name__} has an open vocabulary: use a tokenizer trained on text")

    def render(self) -> str:
        """The episode so far as text (only with `render_mode="ansi"`)."""
        return "\n\n".join(self._transcript) if self.render_mode == "ansi" else ""

    def _choose_task(self, options: dict[str, Any] | None) -> Task:
        chosen = (options or {}).get("task")
        if chosen is None:
            chosen = int(self.np_random.integers(len(self.tasks)))
        if isinstance(chosen, Task):
            return chosen
        if isinstance(chosen, Mapping):
            return Task.from_row(chosen, 'options["task"]')
        if isinstance(chosen, str):
            raise TypeError(f'options["task"] is an index, a Task or a row, found the text {chosen[:60]!r}')
        return self.tasks[operator.index(chosen)]

    def _read(self, action: ParsedTurn | str) -> ParsedTurn:
        if self._done:
            raise ResetNeeded("the episode is over or has not begun: call reset() before step()")
        self.asked_in_turn = 0
        if isinstance(action, ParsedTurn):
            return action
        if not isinstance(action, str):
            raise TypeError(f"a turn is a str, found {type(action).__name__}")
        turn = parse_turn(action, self.codec, self.mode, self._plan is None)
        check_summary(turn, self.summaries, False)
        return turn

    def _allowed(self, turn: ParsedTurn) -> list[Call]:
        """The calls that the budget has room for."""
        limit = self.budget.tool_calls
        return turn.calls if limit is None else turn.calls[: max(0, limit - self.usage.tool_calls)]

    async def _run_calls(self, turn: ParsedTurn) -> list[CallResult]:
        calls = self._allowed(turn)
        if len(calls) == 1:
            return [await self.toolbox.run(calls[0])]
        running = [asyncio.ensure_future(self.toolbox.run(call)) for call in calls]
        try:
            return await asyncio.gather(*running)
        finally:
            for task in running:  # a fault of one call ends the episode: the others have nobody to answer
                task.cancel()

    def _answer(self, turn: ParsedTurn, results: list[CallResult], sampled_tokens: int | None) -> StepOutcome:
        usage = self.usage
        usage.turns += 1
        usage.count(sampled_tokens=len(turn.text.split()) if sampled_tokens is None else sampled_tokens)
        answer: str | None = None
        if turn.error is not None:
            usage.format_errors += 1
            observation = self._format_error(turn)
        else:
            self._plan = turn.plan or self._plan
            answer = turn.answer
            observation = ""
            if turn.calls:
                results = results + [
                    CallResult(
                        name=c.name, arguments={}, step=c.step, error="budget", output="Error: no tool calls left"
                    )
                    for c in turn.calls[len(results) :]
                ]
                usage.tool_calls += len(results)
                usage.failed_calls += sum(result.error is not None for result in results)
                observation = self.codec.write_observation([result.output for result in results])
            elif turn.summary is not None:
                usage.summaries += 1
                plan = None if self._plan is None else self._plan.steps
                observation = self.codec.write_restart(self.opening, plan, turn.summary)
        seconds = 0.0 if self.budget.seconds is None else self.clock() - self._started
        stop = usage.exceeded(self.budget, seconds)
        if self._loops.closes(results):
            stop = stop or "loop"
        terminated = answer is not None and stop is None
        if stop is None:
            stop = "answered" if terminated else usage.exhausted(self.budget)
        return self._end(stop, turn, results, observation, answer if terminated else None)

    def _end(
        self, stop: str | None, turn: ParsedTurn, results: list[CallResult], observation: str, answer: str | None
    ) -> StepOutcome:
        """The outcome of a step; with a reason to stop it is the last one and carries the scores."""
        self._done = stop is not None
        self.turn = turn
        scores: dict[str, float] = {}
        reward = 0.0
        if self._done:
            scores = {name: float(value) for name, value in self.score(answer).items()}
            for name, weight in self.weights.items():
                reward += weight * scores.get(name, 0.0)
        self.observation = observation
        if self.render_mode == "ansi":
            self._transcript += [turn.text, observation]
        return StepOutcome(
            observation=observation,
            reward=reward,
            terminated=answer is not None,
            truncated=self._done and answer is None,
            info=self._info(scores, turn.error.kind if turn.error else None, stop),
            turn=turn,
            calls=results,
        )

    def _format_error(self, turn: ParsedTurn) -> str:
        assert turn.error is not None
        return self.codec.write_observation([turn.error.message()])

    def _info(self, scores: dict[str, float], error: str | None, stop_reason: str | None) -> dict[str, Any]:
        assert self._task is not None
        return {
            "task_id": self._task.id,
            "scores": scores,
            "usage": self.usage.as_dict(),
            "error": error,
            "stop_reason": stop_reason,
        }
