"""Which environment: enough to make it again, in another process or a year later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from ..envs.tool_env import ToolEnv


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """An environment's id and the keyword arguments that it is made with."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> ToolEnv:
        """A new instance, without Gymnasium's wrappers.

        Raises:
            gymnasium.error.Error: there is no such id; close ones are suggested.
            TypeError: the environment is not a `ToolEnv`, or does not take these arguments.
        """
        env = gymnasium.make(self.id, disable_env_checker=True, **self.kwargs).unwrapped
        if not isinstance(env, ToolEnv):
            raise TypeError(f"{self.id} is a {type(env).__name__}; rollouts need a forethought.envs.ToolEnv")
        return env

    def describe(self, env: ToolEnv) -> dict[str, Any]:
        """The `env` field of an episode."""
        return {"id": self.id, "version": env.version, "kwargs": dict(self.kwargs)}
