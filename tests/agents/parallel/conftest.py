"""A policy for Pointer that is right as often as it is told to be, and plans as it is told to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

import forethought.envs  # noqa: F401
from forethought.agents import (
    EnvSpec,
    Episode,
    FinishReason,
    ModelAgent,
    PlainFormat,
    Sample,
    SamplingParams,
    Segment,
    Status,
    WordTokenizer,
)
from forethought.agents.episode import SectionSpan, Turn
from forethought.envs.pointer import PointerTasks
from forethought.sandboxes import InfrastructureFault

SPEC = EnvSpec(id="forethought/Pointer-v0", kwargs={"split": "test", "hops": (0, 4)})
TASKS = PointerTasks("test", (0, 4)).head(60)


class Guesser:
    """An engine that reads a Pointer task and goes on with the turn from wherever it stands.

    It is right with a probability of its own, else it answers any other symbol; errors of different seeds are
    independent. It plans `follow 0` to `follow <plans - 1>`.
    """

    context_limit = 1000

    def __init__(self, form: PlainFormat, right: float, plans: int = 4) -> None:
        self.form, self.right, self.plans = form, right, plans
        self.prompts: list[list[str]] = []
        self.down_for: set[str] = set()
        """Starting symbols of tasks for which the engine is gone."""

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        words = "".join(self.form.tokenizer.pieces(prompt_ids)).split()
        self.prompts.append(words)
        at = words.index("start")
        if words[at + 1] in self.down_for:
            raise InfrastructureFault("the engine is gone")
        table = dict(zip(words[2:at:2], words[3:at:2], strict=True))
        symbol = words[at + 1]
        for _ in range(int(words[at + 3])):
            symbol = table[symbol]
        rng = Random(params.seed)
        if rng.random() >= self.right:
            symbol = rng.choice([other for other in table if other != symbol])
        text = f"<plan> 1. follow {rng.randrange(self.plans)} </plan> <think> {'A ' * rng.randrange(5)}</think>"
        if "<plan>" in words:
            text = text.partition("</plan>")[2]
        ids = [*self.form.tokenizer.encode_turn(f"{text} <answer> {symbol} </answer>"), self.form.stop_token_ids[0]]
        end = next((i + 1 for i, token in enumerate(ids) if token in params.stop_token_ids), len(ids))
        ids = ids[: min(end, params.max_tokens)]
        stopped = ids[-1] in params.stop_token_ids
        return Sample(ids, [-rng.random() for _ in ids], FinishReason.STOP if stopped else FinishReason.LENGTH)

    def release(self, session: str) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def guesser() -> Callable[..., ModelAgent]:
    def make(right: float, plans: int = 4) -> ModelAgent:
        form = PlainFormat(WordTokenizer(SPEC.make().vocabulary()))
        return ModelAgent(engine=Guesser(form, right, plans), format=form, sampling=SamplingParams(max_tokens=40))

    return make


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    """An attempt with an answer of two tokens; everything that strategies read can be given."""

    def make(task: str, attempt: int, answer: str | None, /, **changes: Any) -> Episode:
        logprobs = changes.pop("logprobs", [-1.0, -1.0])
        tokens = changes.pop("tokens", 0)
        sampled = [-0.5] * tokens + logprobs
        segment = Segment(
            token_ids=[9] * (3 + len(sampled)),
            sampled=[0] * 3 + [1] * len(sampled),
            logprobs=[0.0] * 3 + sampled,
            sections=[] if answer is None else [SectionSpan("answer", 3 + tokens, 3 + len(sampled))],
        )
        fields: dict[str, Any] = {
            "id": f"{task}/{attempt}",
            "task_id": task,
            "attempt": attempt,
            "env": {"id": "x", "version": "1", "kwargs": {}},
            "task": {"id": task, "prompt": "?", "answer": "a", "aliases": [], "difficulty": None, "metadata": {}},
            "seed": 0,
            "segments": [segment],
            "turns": [Turn(text="t", observation="", segment=0, start=3, end=3 + len(sampled))],
            "answer": answer,
            "scores": {"correct": float(answer == "a")},
            "reward": float(answer == "a"),
            "usage": {"context_tokens": 3 + len(sampled), "seconds": 0.5},
            "stop_reason": "answered",
            "status": Status.TRUNCATED if answer is None else Status.COMPLETED,
        }
        return Episode(**{**fields, **changes})

    return make


def is_close(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and math.isclose(first, second, rel_tol=1e-12, abs_tol=1e-12)
