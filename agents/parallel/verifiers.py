"""Verifiers: how good an attempt is, for `BestOf`. Any function of an episode is one."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..episode import Episode
from ..evaluation.records import EpisodeRecord


def is_right(episode: Episode) -> float:
    """Whether the environment found the attempt right: the upper bound of every verifier, pass@n."""
    return float(EpisodeRecord.of(episode).correct)


def call_passed(tool: str, output: str, argument: str | None = None) -> Callable[[Episode], float]:
    """Whether the policy's own check passed.

    For example `BestOf(call_passed("run_tests", "all public tests pass", "solution"), "tests")`.

    Args:
        tool: The tool that checks.
        output: Regular expression that the whole output matches when the check passes.
        argument: The argument that must equal the answer: then what passed is what was answered. Without it, the
            last call of the tool decides.
    """
    passes = re.compile(output, re.DOTALL)

    def verify(episode: Episode) -> float:
        calls = [call for turn in episode.turns for call in turn.calls if call.name == tool]
        if argument is None:
            calls = calls[-1:]
        else:
            calls = [call for call in calls if _same(call.arguments.get(argument), episode.answer)]
        return float(any(call.error is None and passes.fullmatch(call.output) for call in calls))

    return verify


def _same(checked: object, answer: str | None) -> bool:
    return isinstance(checked, str) and answer is not None and checked.strip() == answer.strip()
