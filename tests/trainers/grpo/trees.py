"""Episodes that are trees: rolled out by a script, made by hand, and cut into more segments than they had."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from forethought.agents import EnvSpec, EpisodeRequest, ScriptedAgent, rollout_episode
from forethought.agents.context_window import ContextWindow
from forethought.agents.episode import Episode, Segment, SegmentKind
from forethought.envs import Task, ToolEnv, tool
from forethought.envs.protocol import Call
from forethought.envs.sub_models import SubTaskEnv
from forethought.envs.tools import ToolError

from .tiny_grpo import make_episode

BYTES = 300
"""Vocabulary of a model for rolled out episodes."""


class TreeEnv(ToolEnv):
    """Look-ups that the policy may hand to itself."""

    def __init__(self, task: Task) -> None:
        super().__init__([task], spelling="words", sub_models=("self",), budget={"depth": 2})

    @tool(timeout=None)
    def look(self, key: str) -> str:
        """Look a key up."""
        if key == "nothing":
            raise ToolError("no such key")
        return f"v{key}"

    def score(self, answer: str | None) -> dict[str, float]:
        return {"correct": float(answer == "right")}


def act(env: ToolEnv) -> Generator[str, str, None]:
    """Ask for two to three parts at once, one of which asks in its turn; summarise; look up in vain twice; answer."""
    write, rng = env.codec.write_turn, random.Random(env.task.prompt)
    if isinstance(env, SubTaskEnv):
        calls = [Call("ask", {"task": "leaf"})] if env.task.prompt == "part 0" else [Call("look", {"key": "a"})]
        yield write(plan=["look"], calls=calls)
        if rng.random() < 0.6:
            yield write(summary="seen va")
        yield write(answer=f"r{rng.randrange(5)}")
        return
    parts = [Call("ask", {"task": f"part {i}"}) for i in range(rng.randint(2, 3))]
    yield write(plan=["split", "join"], think="hm " * rng.randint(1, 6), calls=parts)
    yield write(summary="part 0 gave r1")
    for _ in range(2):
        yield write(calls=[Call("look", {"key": "nothing"})])
    yield write(answer=rng.choice(["right", "wrong"]))


def roll_out(place: int) -> Episode:
    """The tree of the task number `place`."""
    task = Task(id=str(place), prompt=f"task {place}")
    agent = ScriptedAgent(act, window=ContextWindow(limit=4096, policy="learned"))
    request = EpisodeRequest(task=task, seed=place)
    return asyncio.run(rollout_episode(TreeEnv(task), EnvSpec(id="tests/Tree-v0"), agent, request))


def make_tree(key: int, segments: int) -> Episode:
    """A tree that depends on `key` alone, every kind of segment in it, with sections but without turns."""
    episode = make_episode(key, segments=segments)
    rng = random.Random(-key)
    for index, segment in enumerate(episode.segments):
        if index:
            segment.kind = rng.choice(list(SegmentKind)[1:])
            parent = rng.randrange(index)
            segment.parent = (parent, rng.randrange(1, len(episode.segments[parent].token_ids)))
    return episode


def cut_segments(episode: Episode) -> Episode:
    """The same episode with a context of its own for every turn: it begins with all that the model had read by then."""
    cut = copy.deepcopy(episode)
    cut.segments = []
    pieces: list[list[int]] = []
    """Of each segment before: the new segments that its turns are in, in order."""
    for index, segment in enumerate(episode.segments):
        turns = [turn for turn in episode.turns if turn.segment == index]
        starts = [0, *(turn.start for turn in turns[1:])]
        ends = [*(turn.start for turn in turns[1:]), len(segment.token_ids)]
        pieces.append([])
        for start, end in zip(starts, ends, strict=True):
            piece = Segment(kind=segment.kind, parent=segment.parent)
            if segment.parent is not None:
                old, position = segment.parent
                piece.parent = (pieces[old][_holder(episode, old, position)], position)
            if start:
                piece.kind, piece.parent = SegmentKind.TRIMMED, (pieces[-1][-1], start)
            piece.token_ids = segment.token_ids[:end]
            piece.sampled = [0] * start + segment.sampled[start:end]
            piece.logprobs = [0.0] * start + segment.logprobs[start:end]
            piece.sections = [replace(s) for s in segment.sections if start <= s.start < end]
            pieces[-1].append(len(cut.segments))
            cut.segments.append(piece)
    seen = [0] * len(episode.segments)
    for turn in cut.turns:
        old = turn.segment
        turn.segment = pieces[old][seen[old]]
        seen[old] += 1
        for call in turn.calls:
            if call.child is not None:
                call.child = pieces[call.child][0]
    return cut


def _holder(episode: Episode, segment: int, position: int) -> int:
    """Number of the turn of a segment after which something began at `position`."""
    ends = [turn.end for turn in episode.turns if turn.segment == segment]
    return next(number for number, end in enumerate(ends) if position <= end)


def by_place(make: Any) -> Any:
    """For `FakeRollout`: episodes that depend on their place in the batch alone."""
    return lambda row, place, step: make(place)
