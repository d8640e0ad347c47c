"""The environments that the package brings, by id."""

from __future__ import annotations

import gymnasium

_ENTRY_POINTS = {
    "forethought/Code-v0": "forethought.envs.code.env:CodeEnv",
    "forethought/Delegate-v0": "forethought.envs.delegate.env:DelegateEnv",
    "forethought/Detour-v0": "forethought.envs.detour.env:DetourEnv",
    "forethought/FanOut-v0": "forethought.envs.fan_out.env:FanOutEnv",
    "forethought/Pointer-v0": "forethought.envs.pointer.env:PointerEnv",
    "forethought/Search-v0": "forethought.envs.search.env:SearchEnv",
    "forethought/Stream-v0": "forethought.envs.stream.env:StreamEnv",
}


def register_environments() -> None:
    """Register every id with Gymnasium by the name of its class, which is imported when one is made."""
    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point)
