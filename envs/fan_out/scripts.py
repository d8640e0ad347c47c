"""Scripted policies of the FanOut family: the oracle, a baseline, and the mixture that plan traces are made from.

A script is run once in every context: for the task, and for each sub-task, which is a chain.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import numpy as np

from ..protocol import Call, Spelling
from ..sub_models import ASK
from ..tool_env import ToolEnv
from .ways import Act, Then, Way, cheapest, serially, side_by_side
from .world import Chain

Script = Generator[str, str, None]

_OUTPUT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)


def oracle(env: ToolEnv) -> Script:
    """The way with the shortest critical path: parallel for a fan, in one context for a chain, staged for a mixture."""
    parts, then = _work(env)
    yield from _play(env, cheapest(parts, then) if env.sub_models else serially(parts, then))


def serial(env: ToolEnv) -> Script:
    """Every look-up in a turn of its own, in one context."""
    yield from _play(env, serially(*_work(env)))


def random_width(env: ToolEnv) -> Script:
    """How the work is split says nothing about the task: the skills are all there, the judgement is not.

    50 % of the tasks are worked serially. 25 % are handed out side by side, one sub-call for each chain, which for a
    single chain is one needless sub-call. 15 % are split too far: besides, a chain is handed out for a second time, or
    one that is not part of the task. In 10 % a chain is cut in two halves that run side by side, though the second
    needs what the first one finds, so that the answer is wrong. (A chain of one look-up cannot be cut, and is worked
    serially instead.) Sub-tasks are worked serially.
    """
    parts, then = _work(env)
    whole = env.parent is None and env.sub_models
    yield from _play(env, _random_way(env, parts, then) if whole else serially(parts, then))


def _random_way(env: ToolEnv, parts: list[Chain], then: Then | None) -> Way:
    rng = env.np_random
    chance = rng.random()
    if chance < 0.5:
        return serially(parts, then)
    if chance < 0.75:
        return side_by_side(parts, then)
    if chance < 0.9:
        given = parts[int(rng.integers(len(parts)))]
        extra = given if rng.random() < 0.5 else _another(env, len(given) - 1)
        return side_by_side([*parts, extra], then, chosen=range(len(parts)))
    return _cut_way(parts, then, rng)


def _cut_way(parts: list[Chain], then: Then | None, rng: np.random.Generator) -> Way:
    """One chain in two halves that start from the same entity; the end of the second is taken for the result."""
    long = [n for n, part in enumerate(parts) if len(part) > 2]
    if not long:
        return serially(parts, then)
    cut = long[int(rng.integers(len(long)))]
    part = parts[cut]
    middle = int(rng.integers(2, len(part)))
    halves = [part[:middle], [part[0], *part[middle:]]]
    chosen = [n + (n >= cut) for n in range(len(parts))]
    return side_by_side([*parts[:cut], *halves, *parts[cut + 1 :]], then, chosen=chosen)


def _another(env: ToolEnv, hops: int) -> Chain:
    """A chain that the task does not ask for."""
    world = env.task.metadata["world"]
    relations = env.np_random.integers(world["relations"], size=hops)
    return [f"E{env.np_random.integers(world['entities'])}", *(f"R{n}" for n in relations)]


def _work(env: ToolEnv) -> tuple[list[Chain], Then | None]:
    """The chains of the task and its second stage; a sub-task is one chain."""
    if env.parent is not None:
        return [env.task.prompt.split()], None
    then = env.task.metadata["then"]
    return env.task.metadata["parts"], None if then is None else (then[0], then[1])


def _play(env: ToolEnv, way: Way) -> Script:
    act = next(way)
    while True:
        observation = yield _turn(env, act)
        if not act.calls:
            return
        act = way.send(_OUTPUT.findall(observation))


def _turn(env: ToolEnv, act: Act) -> str:
    calls = []
    for call in act.calls:
        name = "task" if call.tool == ASK else "question"
        named = env.codec.spelling == Spelling.JSON
        calls.append(Call(call.tool, {name: call.text} if named else (call.text,), call.step))
    plan = act.plan if env.mode == "plan" else None
    return env.codec.write_turn(plan=plan, calls=calls, answer=act.answer or None)
