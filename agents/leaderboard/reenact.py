"""Plays an episode again token by token, where its tokenizer is known: the rollout itself, with a recorded engine.

What comes out must be the same episode in every part: contexts, sections, plans, calls, scores, usage. It is stricter
than `replay_episode`, which knows texts only, and leaves nothing of the tokens to trust.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...envs.tasks import Task
from ...envs.tool_env import ToolEnv
from ..context_format import ContextFormat
from ..context_window import ContextWindow
from ..engine import Engine, FinishReason, Sample, SamplingParams
from ..env_spec import EnvSpec
from ..episode import Episode
from ..interventions import Intervention
from ..rollout import EpisodeRequest, rollout_episode
from ..text_model import TextAnswer, TextModel

_SHOWN = 120


class Deviation(Exception):
    """The episode cannot have gone as the record says; the message says why."""


def can_reenact(episode: Episode) -> bool:
    """Whether nobody but the policy wrote in it: sub-calls run side by side, and their order is not recorded."""
    return not any(call.model is not None or call.name == "ask" for turn in episode.turns for call in turn.calls)


class Reenactment:
    """Plays episodes of one environment again.

    Args:
        spec: The environment.
        env: An instance of it.
        form: The format of the contexts.
        window: The window that they were made under.
        context_limit: The engine's.
        max_turn_tokens: Most sampled tokens of one turn.
    """

    def __init__(
        self,
        spec: EnvSpec,
        env: ToolEnv,
        form: ContextFormat,
        *,
        window: ContextWindow,
        context_limit: int,
        max_turn_tokens: int,
    ) -> None:
        self._spec, self._env = spec, env
        self._agent = _Player(form, SamplingParams(max_tokens=max_turn_tokens), window, env.sub_models)
        self._context_limit = context_limit

    async def differences(self, episode: Episode, task: Task) -> list[str]:
        """What the record says and the episode does not, one sentence each."""
        env, agent = self._env, self._agent
        clock, summaries = env.clock, env.summaries
        agent.playback = playback = _Playback(episode, self._context_limit)
        env.clock = playback.now
        try:
            request = EpisodeRequest(task=task, attempt=episode.attempt, seed=episode.seed)
            made = await rollout_episode(env, self._spec, agent, request)
        except Deviation as deviation:
            return [str(deviation)]
        finally:
            env.clock, env.summaries = clock, summaries
        if playback.served < len(episode.turns):
            return [f"turn {playback.served} comes after the episode's end"]
        return list(_compare(episode, made))


class _Player:
    """An agent that says what was recorded."""

    name = "recorded"
    intervention: Intervention | None = None

    def __init__(
        self, form: ContextFormat, sampling: SamplingParams, window: ContextWindow, sub_models: Sequence[str]
    ) -> None:
        self.format, self.sampling, self.window = form, sampling, window
        self.sub_models: Mapping[str, TextModel] = {name: _Nobody(name) for name in sub_models}
        self.playback: Engine

    def engine_for(self, env: ToolEnv) -> Engine:
        """The recorded turns."""
        return self.playback


class _Nobody:
    """A sub-model that the record does not know of."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def answer(self, prompt: str) -> TextAnswer:
        """Nothing: the episode was chosen because nobody was asked."""
        raise Deviation(f"the sub-model {self.name!r} is asked, and the record knows of no such call")


class _Playback:
    """An engine that samples what was sampled, if it is asked what it was asked."""

    def __init__(self, episode: Episode, context_limit: int) -> None:
        self.context_limit = context_limit
        self.served = 0
        self._episode = episode

    def now(self) -> float:
        """Time stands still, and runs out in the last turn where the record says that it did."""
        over = self._episode.stop_reason == "seconds" and self.served == len(self._episode.turns)
        return math.inf if over else 0.0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """The recorded turn.

        Raises:
            Deviation: it is not what could have been sampled here.
        """
        number, episode = self.served, self._episode
        if number == len(episode.turns):
            raise Deviation("the turns end before the episode does")
        turn = episode.turns[number]
        segment = episode.segments[turn.segment]
        if segment.token_ids[: turn.start] != prompt_ids:
            what = "of the task" if number == 0 else "of the task and the observations so far"
            raise Deviation(f"turn {number}: the context that is recorded before it is not the one {what}")
        token_ids = segment.token_ids[turn.start : turn.end]
        if len(token_ids) > params.max_tokens:
            raise Deviation(f"turn {number}: {len(token_ids)} sampled tokens where {params.max_tokens} are allowed")
        self.served += 1
        return Sample(token_ids, segment.logprobs[turn.start : turn.end], FinishReason.STOP)

    def release(self, session: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is held."""


def _compare(recorded: Episode, made: Episode) -> list[str]:
    differences = []
    if len(recorded.turns) == len(made.turns):
        for number, (a, b) in enumerate(zip(recorded.turns, made.turns, strict=True)):
            for what, was, now in (
                ("text is not what its tokens say", a.text, b.text),
                ("observation differs", a.observation, b.observation),
                ("place among the tokens differs", (a.segment, a.start, a.end), (b.segment, b.start, b.end)),
                ("calls differ", a.calls, b.calls),
                ("format error differs", a.error, b.error),
            ):
                if was != now:
                    differences.append(f"turn {number}: the {what}: {_differ(was, now)}")
    parts: list[tuple[str, Any, Any]] = [
        ("number of segments", len(recorded.segments), len(made.segments)),
        ("scores", recorded.scores, made.scores),
        ("reward", recorded.reward, made.reward),
        ("answer", recorded.answer, made.answer),
        ("stop reason", recorded.stop_reason, made.stop_reason),
        ("status", str(recorded.status), str(made.status)),
        ("usage", _timeless(recorded.usage), _timeless(made.usage)),
        ("window", recorded.window, made.window),
        ("plans", [(p.turn, p.steps) for p in recorded.plans], [(p.turn, p.steps) for p in made.plans]),
    ]
    for number, (s, t) in enumerate(zip(recorded.segments, made.segments, strict=False)):
        parts += [
            (f"kind and parent of segment {number}", (str(s.kind), s.parent), (str(t.kind), t.parent)),
            (f"tokens of segment {number}", s.token_ids, t.token_ids),
            (f"sampled tokens of segment {number}", s.sampled, t.sampled),
            (f"sections of segment {number}", [_plain(x) for x in s.sections], [_plain(x) for x in t.sections]),
        ]
    return differences + [f"{name}: {_differ(was, now)}" for name, was, now in parts if was != now]


def _timeless(usage: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in usage.items() if name != "seconds"}


def _plain(span: Any) -> tuple[str, int, int]:
    return span.kind, span.start, span.end


def _differ(recorded: Any, found: Any) -> str:
    return f"recorded {_short(recorded)}, replayed {_short(found)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
