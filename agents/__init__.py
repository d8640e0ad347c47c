"""What acts: engines that sample tokens, context formats, rollouts, episodes, evaluation and reports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import Agent, ModelAgent, ScriptedAgent
    from .context_format import ChatFormat, ContextFormat, PlainFormat
    from .context_window import ContextWindow
    from .engine import Engine, FinishReason, Sample, SamplingParams
    from .env_spec import EnvSpec
    from .episode import Episode, Segment, SegmentKind, Status
    from .episode_store import EpisodeStore, EpisodeWriter, StoreError
    from .replay import replay_episode
    from .rollout import EpisodeRequest, rollout_episode
    from .rollouts import collect_rollouts, run_rollouts
    from .tokenizers import ByteTokenizer, WordTokenizer

_HOME = {
    "Agent": "agent",
    "ByteTokenizer": "tokenizers",
    "ChatFormat": "context_format",
    "ContextFormat": "context_format",
    "ContextWindow": "context_window",
    "Engine": "engine",
    "EnvSpec": "env_spec",
    "Episode": "episode",
    "EpisodeRequest": "rollout",
    "EpisodeStore": "episode_store",
    "EpisodeWriter": "episode_store",
    "FinishReason": "engine",
    "ModelAgent": "agent",
    "PlainFormat": "context_format",
    "Sample": "engine",
    "SamplingParams": "engine",
    "ScriptedAgent": "agent",
    "Segment": "episode",
    "SegmentKind": "episode",
    "Status": "episode",
    "StoreError": "episode_store",
    "WordTokenizer": "tokenizers",
    "collect_rollouts": "rollouts",
    "replay_episode": "replay",
    "rollout_episode": "rollout",
    "run_rollouts": "rollouts",
}
__all__ = [
    "Agent",
    "ByteTokenizer",
    "ChatFormat",
    "ContextFormat",
    "ContextWindow",
    "Engine",
    "EnvSpec",
    "Episode",
    "EpisodeRequest",
    "EpisodeStore",
    "EpisodeWriter",
    "FinishReason",
    "ModelAgent",
    "PlainFormat",
    "Sample",
    "SamplingParams",
    "ScriptedAgent",
    "Segment",
    "SegmentKind",
    "Status",
    "StoreError",
    "WordTokenizer",
    "collect_rollouts",
    "replay_episode",
    "rollout_episode",
    "run_rollouts",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
