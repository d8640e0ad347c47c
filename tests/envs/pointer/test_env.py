from typing import Any

from forethought.envs import ToolEnv
from forethought.envs.conformance import EnvConformance, Script
from forethought.envs.pointer import PointerEnv
from forethought.envs.pointer.scripts import oracle


class TestPointerInWords(EnvConformance):
    def make(self, **kwargs: Any) -> ToolEnv:
        return PointerEnv(**kwargs)

    def solve(self, env: ToolEnv) -> Script:
        return oracle(env)


class TestPointerInJson(TestPointerInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return PointerEnv(spelling="json", **kwargs)


class TestBarePointer(TestPointerInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return PointerEnv(mode="bare", **kwargs)
