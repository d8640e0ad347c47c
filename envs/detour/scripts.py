"""Scripted policies of the Detour family: oracle, naive policy, and the mixture that plan traces are made from."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..protocol import Call, PlanStep
from ..tool_env import ToolEnv
from .env import NIL
from .tasks import TOOL

Script = Generator[str, str, None]


def oracle(env: ToolEnv) -> Script:
    """Take the shortest route first and at each contradiction the next shortest: the best without knowing the world."""
    for route in sorted(env.task.metadata["routes"], key=len):
        entity: str | None = env.task.metadata["start"]
        for hop, relation in enumerate(route):
            observation = yield _look_up(env, route, hop, entity, planned=hop == 0)
            entity, kept = _read(env, relation, observation)
            if not kept:
                break
        else:
            break
    yield env.codec.write_turn(answer=entity)


def naive(env: ToolEnv) -> Script:
    """Take the first route and never another.

    Where it ends, give up or repeat the look-up until the episode is over (equally likely); do not look at types.
    """
    route: list[str] = env.task.metadata["routes"][0]
    entity: str = env.task.metadata["start"]
    for hop, relation in enumerate(route):
        found, _ = _read(env, relation, (yield _look_up(env, route, hop, entity, planned=hop == 0)))
        if found is None and env.np_random.random() < 0.5:
            yield env.codec.write_turn(answer=NIL)
        while found is None:
            found, _ = _read(env, relation, (yield _look_up(env, route, hop, entity, planned=False)))
        entity = found
    yield env.codec.write_turn(answer=entity)


def careless(env: ToolEnv) -> Script:
    """All the skills and little strategy; plan traces are made from it.

    It takes any route, the long ones as readily as the short, and now and then (in 3 % of the turns) another one for
    no reason. Where a look-up gives nothing it takes another route (35 %), gives up (25 %), repeats the look-up (25 %)
    or looks up some relation and answers what that gives (15 %); having repeated, it repeats again or gives up. Where
    a look-up gives another type than promised it takes another route (35 %), repeats the look-up (25 %) or goes on.

    Measured on the first 4,000 tasks for training with `broken=0.6` (the measures are those of
    `forethought.agents.evaluation.strategy`): recovery .39, repeated failures .24, re-plan recall .29, precision .67,
    re-plans on unbroken tasks .06, .73 calls more than the oracle; right answers .84.
    """
    rng = env.np_random
    routes: list[list[str]] = env.task.metadata["routes"]
    start: str = env.task.metadata["start"]

    def another(route: list[str] | None) -> list[str]:
        others = [r for r in routes if r is not route]
        return others[int(rng.integers(len(others)))]

    route, hop, entity, planned, repeats = another(None), 0, start, True, 0
    while hop < len(route):
        if hop and not repeats and rng.random() < 0.03:
            route, hop, entity, planned = another(route), 0, start, True
        observation = yield _look_up(env, route, hop, entity, planned)
        found, kept = _read(env, route[hop], observation)
        planned = False
        whim = rng.random()
        if repeats and not kept:
            whim = 0.45 + 0.4 * whim if found is None else 0.6 + 0.4 * whim
        if kept or (found is not None and whim >= 0.6):
            entity, hop, repeats = str(found), hop + 1, 0
        elif whim < 0.35:
            route, hop, entity, planned, repeats = another(route), 0, start, True, 0
        elif whim < 0.6:
            repeats += 1
        elif whim < 0.85:
            yield env.codec.write_turn(answer=NIL)
        else:
            relation = str(rng.choice([relation for r in routes for relation in r]))
            observation = yield _look_up(env, [*route[:hop], relation], hop, entity, planned=False)
            yield env.codec.write_turn(answer=_read(env, relation, observation)[0] or NIL)
    yield env.codec.write_turn(answer=entity)


def _look_up(env: ToolEnv, route: Sequence[str], hop: int, entity: str | None, planned: bool) -> str:
    """A turn that looks up the next relation of a route; the route is named first when it is new."""
    call = Call(TOOL, {"relation": route[hop], "entity": entity}, hop + 1 if env.mode == "plan" else None)
    plan = [PlanStep(i, relation, (i - 1,) if i > 1 else ()) for i, relation in enumerate(route, 1)]
    return env.codec.write_turn(
        plan=plan if planned and env.mode == "plan" else None,
        think=" ".join(route) if planned and env.mode == "think" else None,
        calls=[call],
    )


def _read(env: ToolEnv, relation: str, observation: str) -> tuple[str | None, bool]:
    """The entity that a look-up gave, and whether it is what was promised."""
    words = observation.split()[1:-1]
    if len(words) != 2 or NIL in words:
        return None, False
    return words[0], words[1] == env.task.metadata["promises"][relation]
