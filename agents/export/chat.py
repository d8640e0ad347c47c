"""Episodes as chat messages: one row for each context that the policy saw, for supervised fine-tuning elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...envs.protocol import SectionKind, parse_turn
from ...envs.sub_models import SubTaskEnv
from ...envs.summaries import SUMMARY_DUE
from ...envs.tasks import Task
from ...envs.tool_env import ToolEnv
from ..env_spec import EnvSpec
from ..episode import Episode, SegmentKind, Turn


@dataclass(slots=True)
class _Kept:
    """A turn in a context, and where in the context it begins."""

    turn: Turn
    start: int
    read: str
    """What the policy read before it, when that was no opening."""


class ChatRows:
    """Makes the rows of episodes; environments are made once for all episodes that share one.

    A row has `messages`; those that the policy wrote in this very context have `"train": true`, so that a turn that a
    later context repeats is not learned twice. `episode`, `segment`, `kind`, `reward` and `scores` say what it is.
    `exact` is false where an episode does not tell whether the policy read an observation or the request for a summary:
    beside turns that are no summary though one may have been due. Those messages are a guess; all others are what the
    policy saw.
    """

    def __init__(self) -> None:
        self._env: ToolEnv | None = None
        self._made_from: dict[str, Any] | None = None

    def rows(self, episode: Episode) -> list[dict[str, Any]]:
        """The rows of an episode, one a segment.

        Raises:
            EnvSpecError: the environment, whose instructions the policy read, cannot be made.
        """
        if not episode.segments:
            return []
        contexts = _Contexts(episode, self._begin(episode))
        return [
            {
                "messages": messages,
                "episode": episode.id,
                "segment": number,
                "kind": str(episode.segments[number].kind),
                "reward": episode.reward,
                "scores": episode.scores,
                "exact": number not in contexts.guessed,
            }
            for number in range(len(episode.segments))
            if (messages := contexts.messages(number))
        ]

    def _begin(self, episode: Episode) -> ToolEnv:
        if self._env is None or episode.env != self._made_from:
            self._env = EnvSpec(id=episode.env["id"], kwargs=episode.env["kwargs"]).make()
            self._made_from = episode.env
        self._env.summaries = episode.window.get("policy") == "learned"
        task = Task.from_row(episode.task, f"episode {episode.id}")
        self._env.reset(seed=episode.seed, options={"task": task})
        return self._env


class _Contexts:
    """The contexts of one episode as text."""

    def __init__(self, episode: Episode, env: ToolEnv) -> None:
        self._episode = episode
        self._turns: list[list[_Kept]] = [[] for _ in episode.segments]
        self._openings: list[str] = []
        self._envs: list[ToolEnv] = []
        self.guessed: set[int] = set()
        """Segments whose messages may not be what the policy saw."""
        own: list[list[Turn]] = [[] for _ in episode.segments]
        for turn in episode.turns:
            own[turn.segment].append(turn)
        for number, segment in enumerate(episode.segments):
            self._open(number, env)
            read = self._turns[number][-1].turn.observation if segment.kind is SegmentKind.TRIMMED else ""
            for turn in own[number]:
                self._turns[number].append(_Kept(turn, turn.start, read))
                read = turn.observation
        followed = {s.parent[0] for s in episode.segments if s.kind is SegmentKind.AFTER_SUMMARY and s.parent}
        for number, segment in enumerate(episode.segments):
            if segment.kind is SegmentKind.AFTER_SUMMARY:
                self._put_request(number)
            if episode.window.get("policy") == "learned" and number not in followed:
                self._put_last_request(number)

    def messages(self, number: int) -> list[dict[str, Any]]:
        """The messages of a segment, up to the last turn that the policy wrote."""
        kept = self._turns[number]
        if not kept:
            return []
        env = self._envs[number]
        made: list[dict[str, Any]] = []
        if env.instructions:
            made.append({"role": "system", "content": env.instructions, "train": False})
        made.append({"role": "user", "content": self._openings[number], "train": False})
        for i, item in enumerate(kept):
            if i:
                made.append({"role": "user", "content": item.read, "train": False})
            made.append({"role": "assistant", "content": item.turn.text, "train": item.turn.segment == number})
        return made

    def _open(self, number: int, root: ToolEnv) -> None:
        """What a context begins with."""
        segment = self._episode.segments[number]
        if segment.parent is None:
            self._envs.append(root)
            self._openings.append(root.task_prompt())
            return
        parent = segment.parent[0]
        env = self._envs[parent]
        if segment.kind is SegmentKind.SUB_CALL:
            env = SubTaskEnv(env, self._asked(number, env), 0)
            self._openings.append(env.task_prompt())
        elif segment.kind is SegmentKind.AFTER_SUMMARY:
            summary = _section(self._turns[parent][-1].turn, SectionKind.SUMMARY, env)
            self._openings.append(_paragraphs(env.task_prompt(), self._plan(parent, env), summary))
        else:
            keeps_plan = self._episode.window.get("policy") == "keep_recent"
            self._openings.append(_paragraphs(env.task_prompt(), self._plan(parent, env) if keeps_plan else ""))
            self._turns[number] = self._repeated(number, parent)
        self._envs.append(env)

    def _asked(self, number: int, env: ToolEnv) -> str:
        for turn in self._episode.turns:
            for call in turn.calls:
                if call.child == number:
                    arguments = call.arguments
                    return env.codec.join(
                        str(arguments.get("task", "")).strip(), str(arguments.get("context", "")).strip()
                    )
        return ""

    def _plan(self, segment: int, env: ToolEnv) -> str:
        """The plan in force at the end of a segment, as it was sampled."""
        task = self._episode.task_of(segment)
        plan = ""
        for turn in self._episode.turns:
            if turn.segment <= segment and turn.error is None and self._episode.task_of(turn.segment) == task:
                plan = _section(turn, SectionKind.PLAN, env) or plan
        return plan

    def _repeated(self, number: int, parent: int) -> list[_Kept]:
        """The turns of the context before that a trimmed context repeats: found by their tokens."""
        here = np.asarray(self._episode.segments[number].token_ids, "<i4").tobytes()
        before = self._episode.segments[parent].token_ids
        for i, item in enumerate(self._turns[parent]):
            at = here.find(np.asarray(before[item.start :], "<i4").tobytes())
            if at >= 0 and at % 4 == 0:
                return [_Kept(k.turn, k.start - item.start + at // 4, k.read) for k in self._turns[parent][i:]]
        return self._turns[parent][-1:]

    def _put_request(self, number: int) -> None:
        """Put the request for a summary where the policy read it, and the observation held back behind the summary.

        A context after a summary that was asked for ends with that observation; one after a summary that the policy
        chose to write ends with it, like the opening of the whole task ends with the task.
        """
        segment = self._episode.segments[number]
        assert segment.parent is not None
        parent = segment.parent[0]
        kept = self._turns[parent]
        written = next(span for span in reversed(self._episode.segments[parent].sections) if span.kind == "summary")
        summary = self._episode.segments[parent].token_ids[written.start : written.end]
        opening = segment.token_ids[: segment.sampled.index(1)] if 1 in segment.sampled else segment.token_ids
        ends = [at for at in range(len(opening), len(summary) - 1, -1) if opening[at - len(summary) : at] == summary]
        first = self._episode.segments[self._episode.task_of(number)].token_ids
        before = first[: self._episode.segments[self._episode.task_of(number)].sampled.index(1)]
        tail = opening[ends[0] :] if ends else []
        if not tail or before[-len(tail) :] == tail:
            return
        due = len(kept) - 1
        while due > 1 and kept[due - 1].turn.error == SUMMARY_DUE:
            due -= 1
        if kept[due - 1].turn.error is not None:
            self.guessed |= {number, parent}
        held, kept[due].read = kept[due].read, self._envs[parent].codec.summary_request
        self._openings[number] = _paragraphs(self._openings[number], held)

    def _put_last_request(self, number: int) -> None:
        """The same where the episode ended before a context began behind the summary."""
        kept, env = self._turns[number], self._envs[number]
        first = len(kept)
        while first > 1 and (kept[first - 1].turn.error or _section(kept[first - 1].turn, SectionKind.SUMMARY, env)):
            first -= 1
        due = next((i for i in range(first, len(kept)) if kept[i].turn.error == SUMMARY_DUE), None)
        if due is not None:
            kept[due].read = env.codec.summary_request
        if first < len(kept) and due != first:
            self.guessed.add(number)


def _section(turn: Turn, kind: SectionKind, env: ToolEnv) -> str:
    """A section of a turn with its markers, or ""."""
    parsed = parse_turn(turn.text, env.codec, env.mode, False)
    return next((turn.text[s.start : s.end] for s in parsed.sections if s.kind is kind), "")


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
