"""Scripted policies of the Code family."""

from __future__ import annotations

import re
from collections.abc import Generator

from ..protocol import Call
from ..tool_env import ToolEnv

_STEP = re.compile(r"<<([0-9+\-*/(). %]+)=")


def compute_gsm8k(env: ToolEnv) -> Generator[str, str, None]:
    """Run the calculations that GSM8K's solutions are annotated with, and answer the last one's value."""
    sums = _STEP.findall(env.task.metadata["solution"])
    code = "\n".join(["value = 0", *(f"value = {step}" for step in sums), "print(float(value))"])
    output = yield env.codec.write_turn(
        plan=["calculate", "answer (after 1)"], calls=[Call("python", {"code": code}, 1)]
    )
    numbers = re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", output)
    yield env.codec.write_turn(answer=numbers[-1] if numbers else "unknown")


def canonical_solution(env: ToolEnv) -> Generator[str, str, None]:
    """Answer with the solution that the task's metadata brings under `solution`."""
    yield env.codec.write_turn(plan=["answer"], answer=env.task.metadata["solution"])
