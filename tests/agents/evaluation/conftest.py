from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forethought.agents import Episode, Segment, Status
from forethought.agents.episode import PlanVersion, SectionSpan, Turn
from forethought.envs.tools import CallResult


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    """One-turn episodes: `<plan> x </plan> <think> ... </think> <answer> x </answer> <eos>` with `think` thoughts."""

    def make(
        task: str, attempt: int, *, think: int, correct: bool, difficulty: float | None = 1.0, **changes: Any
    ) -> Episode:
        length = 9 + think
        segment = Segment(
            token_ids=[0] * (4 + length),
            sampled=[0] * 4 + [1] * length,
            logprobs=[0.0] * (4 + length),
            sections=[
                SectionSpan("plan", 4, 7),
                SectionSpan("think", 7, 9 + think),
                SectionSpan("answer", 9 + think, 12 + think),
            ],
        )
        fields: dict[str, Any] = {
            "id": f"{task}/{attempt}",
            "task_id": task,
            "attempt": attempt,
            "env": {"id": "x", "version": "1", "kwargs": {}},
            "task": {"id": task, "prompt": "?", "answer": "a", "aliases": [], "difficulty": difficulty, "metadata": {}},
            "seed": 0,
            "segments": [segment],
            "turns": [Turn(text="t", observation="", segment=0, start=4, end=4 + length)],
            "plans": [PlanVersion(turn=0, steps=[])],
            "scores": {"correct": float(correct)},
            "reward": float(correct),
            "usage": {"context_tokens": 4 + length, "seconds": 0.5},
            "stop_reason": "answered",
            "status": Status.COMPLETED,
        }
        return Episode(**{**fields, **changes})

    return make


@pytest.fixture
def failed_calls() -> list[CallResult]:
    """Three failed calls, of which one repeats another; the fourth worked."""
    return [
        CallResult(name="f", arguments={"a": 1, "b": 2}, error="tool_error"),
        CallResult(name="f", arguments={"b": 2, "a": 1}, error="timeout"),
        CallResult(name="f", arguments={"a": 2}, error="tool_error"),
        CallResult(name="f", arguments={"a": 1, "b": 2}),
    ]
