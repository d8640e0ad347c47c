"""Which environment: enough to make it again, in another process or a year later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from ..envs.tool_env import ToolEnv


class EnvSpecError(ValueError):
    """An environment cannot be made; the message says why."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """An environment's id and the keyword arguments that it is made with."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> ToolEnv:
        """A new instance, without Gymnasium's wrappers.

        Raises:
            EnvSpecError: there is no such id (close ones are suggested), the environment does not take these arguments,
                or it is not a `ToolEnv`.
        """
        try:
            env = gymnasium.make(self.id, disable_env_checker=True, **self.kwargs).unwrapped
        except (gymnasium.error.Error, ValueError, TypeError, OSError, ImportError) as error:
            raise EnvSpecError(f"cannot make {self.id}: {error}") from error
        if not isinstance(env, ToolEnv):
            raise EnvSpecError(f"{self.id} is a {type(env).__name__}; rollouts need a forethought.envs.ToolEnv")
        return env

    def describe(self, env: ToolEnv) -> dict[str, Any]:
        """The `env` field of an episode."""
        return {"id": self.id, "version": env.version, "kwargs": dict(self.kwargs)}
