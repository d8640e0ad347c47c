"""Replay: an episode again without its model, to the same observations and the same score.

What the policy wrote and what frozen sub-models answered are the inputs. Sub-tasks that the policy answered itself are
played again turn by turn, like the episode. Which of several sub-tasks got the last of a budget that they share was a
matter of timing, so those limits are taken from the record, and checked on the sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

from ..envs.sub_models import ASK, SubTaskEnv
from ..envs.summaries import SUMMARY_DUE
from ..envs.tasks import Task
from ..envs.tool_env import StepOutcome, ToolEnv
from ..envs.tools import CallResult, OverBudgetError, SubAnswer, ToolError
from .env_spec import EnvSpec
from .episode import Episode, Status, Turn

_LIMITS_OF_THE_AGENT = ("context", "segments", "sampled_tokens")


async def replay_episode(episode: Episode, env: ToolEnv | None = None) -> list[str]:
    """Step the environment through the recorded turns and list what differs, one sentence each.

    Args:
        episode: The episode; one with status `fault` has nothing to replay and differs in nothing.
        env: An instance of the episode's environment to use; one is made without it.
    """
    if episode.status is Status.FAULT:
        return []
    if "intervention" in episode.window:
        return [f"made under the intervention {episode.window['intervention']}: what was read is not what was written"]
    env = env or EnvSpec(id=episode.env["id"], kwargs=episode.env["kwargs"]).make()
    if env.version != episode.env["version"]:
        return [f"the environment is version {env.version}, the episode was made with {episode.env['version']}"]
    before = env.clock, env.budget, env.summaries, env.answer_sub_task
    try:
        return await _Replay(episode, env).differences()
    finally:
        env.clock, env.budget, env.summaries, env.answer_sub_task = before


class _Replay:
    """One episode that is played again."""

    def __init__(self, episode: Episode, env: ToolEnv) -> None:
        self._episode = episode
        self._env = env
        self._budget = env.budget
        self._differences: list[str] = []
        self._now = 0.0
        self._numbers = {id(turn): number for number, turn in enumerate(episode.turns)}
        self._turns: dict[int, list[Turn]] = defaultdict(list)
        """Turns by the segment with which their episode or sub-task began."""
        for turn in episode.turns:
            self._turns[episode.task_of(turn.segment)].append(turn)

    async def differences(self) -> list[str]:
        episode, env = self._episode, self._env
        # Time is an input like the model's turns: it stands still, and runs out where the record says that it did.
        env.clock = lambda: self._now
        env.budget = replace(env.budget, sub_calls=None)
        env.summaries = episode.window.get("policy") == "learned"
        env.reset(seed=episode.seed, options={"task": Task.from_row(episode.task, f"episode {episode.id}")})
        outcome = await self._play(env, 0)
        if outcome is None or not (outcome.terminated or outcome.truncated):
            return [*self._differences, "the turns end before the episode does"]
        for turn in (turn for task in self._turns for turn in self._turns[task]):
            self._differences.append(f"turn {self._numbers[id(turn)]} belongs to nothing that was handed out")
        self._compare(outcome)
        return self._differences

    def _compare(self, outcome: StepOutcome) -> None:
        """Compare how the episode ended."""
        episode, limit = self._episode, self._budget.sub_calls
        if limit is not None and outcome.info["usage"]["sub_calls"] > limit:
            self._differences.append(f"more than the budget's {limit} calls to sub-models")
        usage = {name: value for name, value in episode.usage.items() if name in outcome.info["usage"]}
        for name, recorded, found in (
            ("scores", episode.scores, outcome.info["scores"]),
            ("reward", episode.reward, outcome.reward),
            ("stop reason", episode.stop_reason, outcome.info["stop_reason"]),
            ("usage", usage, outcome.info["usage"]),
            ("answer", episode.answer, outcome.turn.answer if outcome.terminated else None),
        ):
            if recorded != found:
                self._differences.append(f"{name}: recorded {recorded!r}, replayed {found!r}")

    async def _play(self, env: ToolEnv, task: int) -> StepOutcome | None:
        """Step through the turns of the episode (task 0) or of a sub-task."""
        turns = self._turns.pop(task, [])
        outcome = None
        for turn in turns:
            number = self._numbers[id(turn)]
            if outcome is not None and (outcome.terminated or outcome.truncated):
                self._differences.append(f"turn {number} comes after the episode's end")
                return outcome
            if task == 0 and turn is turns[-1] and self._episode.stop_reason == "seconds":
                self._now = math.inf
            env.answer_sub_task = _Recorded(self, turn).answer
            parsed = env.parse([turn.text], summary_due=turn.error == SUMMARY_DUE)
            outcome = await env.step_async(parsed, sampled_tokens=turn.end - turn.start)
            if outcome.observation != turn.observation:
                self._differences.append(f"turn {number}: the observation differs")
        ended = outcome is not None and (outcome.terminated or outcome.truncated)
        if task == 0 and not ended and self._episode.stop_reason in _LIMITS_OF_THE_AGENT:
            outcome = env.truncate(self._episode.stop_reason)
        return outcome

    async def play_sub_task(self, env: SubTaskEnv, call: CallResult) -> SubAnswer:
        """Play a sub-task again that the policy answered itself."""
        assert call.child is not None and call.model is not None
        env.budget = replace(env.budget, sampled_tokens=None, sub_calls=None, seconds=None)
        outcome = await self._play(env, call.child)
        answered = outcome is not None and outcome.terminated and call.stop_reason == "answered"
        return SubAnswer(
            model=call.model,
            text=outcome.turn.answer if answered and outcome is not None else None,
            stop_reason=call.stop_reason or "",
            sampled_tokens=env.usage.sampled_tokens,
            child=call.child,
        )


class _Recorded:
    """Answers the sub-tasks of one turn from its record."""

    def __init__(self, replay: _Replay, turn: Turn) -> None:
        self._replay = replay
        self._calls = [call for call in turn.calls if call.name == ASK]

    async def answer(self, env: SubTaskEnv, model: str) -> SubAnswer:
        """The recorded answer of a frozen model; that of the policy itself comes from playing the sub-task again."""
        call = next((call for call in self._calls if _asks(call, env, model)), None)
        if call is None:
            return SubAnswer(model=model, text=None, stop_reason="not in the record")
        self._calls.remove(call)
        if call.error == OverBudgetError.kind:
            raise OverBudgetError("no calls to sub-models left")
        if call.error == ToolError.kind and call.model is None:  # the model did not take it
            raise ToolError(call.output.removeprefix("Error: "))
        if call.child is not None:
            return await self._replay.play_sub_task(env, call)
        return SubAnswer(
            model=model,
            text=call.output if call.error is None else None,
            stop_reason=call.stop_reason or "",
            sampled_tokens=call.sampled_tokens,
            cost=call.cost,
        )


def _asks(call: CallResult, env: SubTaskEnv, model: str) -> bool:
    """Whether a recorded call handed out this sub-task."""
    arguments = call.arguments
    prompt = env.codec.join(str(arguments.get("task", "")).strip(), str(arguments.get("context", "")).strip())
    return prompt == env.task.prompt and arguments.get("model", model) == model
