"""What the layout promises: one namespace, imports that point one way, and packages that are quick to import."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("sandboxes", "envs", "agents", "trainers")
"""Each may import those before it."""
HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "jsonschema", "tantivy", "bm25s", "vllm", "openai"}


def build_table() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    return table


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules that a file of the package imports, inside functions too."""
    package = ["forethought", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def sources(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]


def test_links_sources_and_include_name_the_same_folders() -> None:
    links = {link.name: link.resolve() for link in (ROOT / ".namespace/forethought").iterdir() if link.is_symlink()}
    wheel = build_table()["wheel"]
    assert links == {name: ROOT / name for name in FOLDERS}
    assert wheel["sources"] == {name: f"forethought/{name}" for name in FOLDERS}
    assert set(wheel["only-include"]) == set(FOLDERS) <= set(build_table()["sdist"]["only-include"])
    assert all((ROOT / name / "py.typed").exists() for name in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    above = {f"forethought.{name}" for name in FOLDERS[FOLDERS.index(folder) + 1 :]}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in imports_of(path)
        if ".".join(name.split(".")[:2]) in above
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["sandboxes", "envs"])
def test_environments_and_sandboxes_import_no_torch(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in imports_of(path)
        if name.split(".")[0] in {"torch", "transformers", "trl", "accelerate", "vllm"}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "package", ["forethought.envs", "forethought.agents", "forethought.sandboxes", "forethought.envs.tool_env"]
)
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(modules)


@pytest.mark.parametrize("package", ["forethought.envs", "forethought.agents", "forethought.sandboxes"])
def test_every_public_name_exists(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(getattr(module, "_HOME", module.__all__)) == set(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = module.nonsense


@pytest.mark.parametrize("package", ["forethought.envs", "forethought.agents"])
def test_checkers_see_the_lazy_names(package: str) -> None:
    """The names under TYPE_CHECKING are those that `__getattr__` finds, in the modules that it looks in."""
    module = importlib.import_module(package)
    assert module.__file__ is not None
    guards = [n for n in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(n, ast.If)]
    seen = {
        alias.name: statement.module
        for guard in guards
        for statement in guard.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == module._HOME
