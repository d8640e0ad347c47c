"""What acts: an engine, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..envs.tool_env import ToolEnv
from .context_format import ContextFormat, PlainFormat
from .context_window import ContextWindow
from .engine import Engine, SamplingParams
from .engines.scripted import ScriptedEngine
from .interventions import Intervention
from .tokenizers import ByteTokenizer

if TYPE_CHECKING:
    from .text_model import TextModel

Script = Callable[[ToolEnv], Generator[str, str, None]]
"""A scripted policy: a generator that yields turns and is sent the observation that answers each."""


class Agent(Protocol):
    """A policy: what samples its turns, and the format of the contexts that it reads."""

    name: str
    format: ContextFormat
    sampling: SamplingParams
    """`max_tokens` bounds one turn; stop tokens come from the format, seeds from the episode."""
    window: ContextWindow
    sub_models: Mapping[str, TextModel]
    """Frozen models that answer sub-tasks, by name. A sub-task for `self` is answered by the agent itself."""
    intervention: Intervention | None
    """For causal tests: changes what the policy reads of its own making."""

    def engine_for(self, env: ToolEnv) -> Engine:
        """The engine of one episode or sub-task; called after `reset`."""
        ...


@dataclass(kw_only=True)
class ModelAgent:
    """A model behind an engine that all episodes share."""

    engine: Engine
    format: ContextFormat
    sampling: SamplingParams = field(default_factory=SamplingParams)
    window: ContextWindow = field(default_factory=ContextWindow)
    sub_models: Mapping[str, TextModel] = field(default_factory=dict)
    intervention: Intervention | None = None
    name: str = "model"

    def engine_for(self, env: ToolEnv) -> Engine:
        """The shared engine."""
        return self.engine


class ScriptedAgent:
    """An agent that follows a script: oracles, baselines and tests.

    Args:
        script: The script.
        format: Contexts are tokenised like everybody's, so that scripted episodes can be trained on.
        window: What happens when a context is full.
        sub_models: Frozen models that answer sub-tasks; those for `self` are a new run of the script.
        intervention: For causal tests.
    """

    def __init__(
        self,
        script: Script,
        format: ContextFormat | None = None,
        *,
        window: ContextWindow | None = None,
        sub_models: Mapping[str, TextModel] | None = None,
        intervention: Intervention | None = None,
    ) -> None:
        self.name: str = getattr(script, "__name__", "script")
        self.format: ContextFormat = format or PlainFormat(ByteTokenizer())
        self.sampling = SamplingParams(max_tokens=2**31 - 1)
        self.window = window or ContextWindow()
        self.sub_models: Mapping[str, TextModel] = sub_models or {}
        self.intervention = intervention
        self._script = script

    def engine_for(self, env: ToolEnv) -> Engine:
        """A new run of the script."""
        return ScriptedEngine(env, self._script(env), self.format)
