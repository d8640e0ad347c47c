"""The scripts under the window that the family is made for: a summary and about one chunk fit."""

import asyncio
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest

from forethought.agents import (
    ContextWindow,
    EnvSpec,
    Episode,
    EpisodeRequest,
    PlainFormat,
    ScriptedAgent,
    SegmentKind,
    WordTokenizer,
    collect_rollouts,
    replay_episode,
)
from forethought.agents.context_window import WindowPolicy
from forethought.envs.stream import StreamEnv
from forethought.envs.stream.scripts import BUDGET, forgetful, mostly_forgetful, no_memory, oracle

FORM = PlainFormat(WordTokenizer(StreamEnv().vocabulary()))


def window_of(limit: int | None) -> ContextWindow:
    return ContextWindow(limit=limit, policy=WindowPolicy.LEARNED, summary_tokens=3 * BUDGET + 3, turn_tokens=13)


WINDOW = window_of(103)


def roll_out(script: Callable[..., Any], episodes: int, window: ContextWindow = WINDOW, **kwargs: Any) -> list[Episode]:
    spec = EnvSpec(id="forethought/Stream-v0", kwargs=kwargs)
    tasks = spec.make().tasks
    requests = [EpisodeRequest(task=tasks[i], seed=i) for i in range(episodes)]
    return asyncio.run(collect_rollouts(requests, spec, ScriptedAgent(script, FORM, window=window)))


def score(episodes: list[Episode], name: str) -> float:
    return mean(episode.scores[name] for episode in episodes if name in episode.scores)


@pytest.mark.parametrize(
    ("limit", "options"),
    [
        (103, {"chunks": (3, 6)}),
        (103, {"chunks": (32, 32)}),
        (103, {"hops": (2, 3), "pairs": "held_out"}),
        (128, {"chunks": (6, 6), "query": "end", "hops": (1, 2)}),
    ],
)
def test_the_oracle_answers_everything_within_the_window(limit: int, options: dict[str, Any]) -> None:
    episodes = roll_out(oracle, 30, window_of(limit), **options)
    assert score(episodes, "correct") == score(episodes, "fact_recall") == score(episodes, "precision") == 1.0
    assert score(episodes, "stale") == 0.0
    for episode in episodes:
        assert all(len(segment.token_ids) <= limit for segment in episode.segments)
        assert {segment.kind for segment in episode.segments[1:]} == {SegmentKind.AFTER_SUMMARY}


def test_no_script_says_a_word_that_a_model_could_not_learn() -> None:
    for episode in roll_out(forgetful, 30):
        assert not any(FORM.tokenizer.unknown in segment.token_ids for segment in episode.segments)  # type: ignore[attr-defined]


def test_the_mixtures_know_less_than_the_oracle_and_more_than_no_memory() -> None:
    longest: dict[str, Any] = {"chunks": (6, 6), "facts": 4}
    window = window_of(100)
    accuracy = [
        score(roll_out(script, 300, window, **longest), "correct")
        for script in (no_memory, forgetful, mostly_forgetful)
    ]
    assert accuracy[0] < 0.2 < accuracy[1] < 0.47 < accuracy[2] < 0.65


def test_larger_windows_need_fewer_summaries() -> None:
    def summaries(limit: int | None) -> float:
        return mean(episode.usage["summaries"] for episode in roll_out(oracle, 20, window_of(limit), chunks=(6, 6)))

    assert 6 > summaries(103) > summaries(140) > summaries(220) > summaries(None) == 0


def test_episodes_with_summaries_replay() -> None:
    for script in (oracle, forgetful, mostly_forgetful, no_memory):
        for episode in roll_out(script, 5):
            assert asyncio.run(replay_episode(episode)) == []
