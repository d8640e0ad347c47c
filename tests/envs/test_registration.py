import subprocess
import sys

import gymnasium
import pytest

from forethought.envs import ToolEnv


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_an_id_with_its_module_needs_no_import() -> None:
    code = "import gymnasium; print(gymnasium.make('forethought.envs:forethought/Pointer-v0').reset(seed=0)[0])"
    assert python(code).startswith("table ")


def test_importing_the_package_registers_and_imports_no_environment() -> None:
    code = (
        "import sys, gymnasium, forethought.envs; print('forethought/Pointer-v0' in gymnasium.registry);"
        "print([m for m in sys.modules if m.startswith('forethought.envs.') and not m.endswith('registration')])"
    )
    assert python(code) == "True\n[]\n"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_make_and_make_vec(mode: str) -> None:
    env = gymnasium.make("forethought/Pointer-v0", split="test", hops=(2, 2))
    prompt, info = env.reset(seed=3)
    assert isinstance(env.unwrapped, ToolEnv)
    assert info["task_id"].startswith("pointer1-test-")
    envs = gymnasium.make_vec(
        "forethought/Pointer-v0", 2, mode, vector_kwargs={"shared_memory": False} if mode == "async" else {},
        split="test", hops=(2, 2),
    )  # fmt: skip
    try:
        assert envs.reset(seed=3)[0][0] == prompt
    finally:
        envs.close()


def test_an_unknown_id_gets_a_hint() -> None:
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `Pointer`"):
        gymnasium.make("forethought/Pionter-v0")
