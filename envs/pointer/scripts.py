"""Scripted policies of the Pointer family: the oracle, and the mixture that plan traces are made from."""

from __future__ import annotations

from collections.abc import Generator

from ..tool_env import ToolEnv

Script = Generator[str, str, None]


def oracle(env: ToolEnv) -> Script:
    """Plan as many steps as there are hops, follow them, answer."""
    hops = len(env.task.metadata["path"]) - 1
    yield _turn(env, hops)


def uninformed_plan(env: ToolEnv) -> Script:
    """Plan 0 to 12 steps whatever the number of hops, carry the plan out, answer what it led to.

    The skills (looking up, carrying out a plan, answering) are all there; the strategy is not: the length of the plan
    says nothing about the task, so tokens and difficulty are uncorrelated by construction. Steps after the last hop
    repeat the symbol; a plan that ends before it leaves a guess.
    """
    yield _turn(env, int(env.np_random.integers(13)))


def mostly_uninformed_plan(env: ToolEnv) -> Script:
    """As `uninformed_plan`, but in a fifth of the tasks the plan has as many steps as there are hops.

    So the right plan is among the things that a model trained on it may try, and may learn to prefer.
    """
    hops = len(env.task.metadata["path"]) - 1
    informed = env.np_random.random() < 0.2
    yield _turn(env, hops if informed else int(env.np_random.integers(13)))


def _turn(env: ToolEnv, steps: int) -> str:
    path: list[str] = env.task.metadata["path"]
    hops = len(path) - 1
    visited = [path[min(step, hops)] for step in range(1, steps + 1)]
    if steps >= hops:
        answer = path[hops]
    else:
        symbols = sorted(set(env.task.prompt.split()[1:-4]))
        answer = symbols[int(env.np_random.integers(len(symbols)))]
    plan = [f"follow {steps}"] if env.mode == "plan" else None
    think = " ".join(visited) if env.mode != "bare" else None
    return env.codec.write_turn(plan=plan, think=think, answer=answer)
