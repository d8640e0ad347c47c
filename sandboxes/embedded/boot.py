"""How the interpreter of an environment becomes a template: what it must see, what it is told, its start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..faults import SandboxUnavailable
from . import inside
from .cgroups import Groups
from .inside.tree import SYSTEM

_BOOT = """
import sys
sys.path[:] = [path for path in sys.path if path]
import importlib.util, json
folder, channel, host, config = sys.argv[1:]
spec = importlib.util.spec_from_file_location("inside", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["inside"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from inside.template import main
main(int(channel), int(host), json.loads(config))
"""
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}


def environment_of(python: str | None) -> tuple[str, list[str]]:
    """The interpreter and the folders that must be seen for it to run."""
    prefix = Path(sys.prefix if python is None else python)
    candidates = [Path(sys.executable)] if python is None else [prefix / "bin" / name for name in ("python", "python3")]
    executable = next((candidate for candidate in candidates if candidate.exists()), None)
    if executable is None:
        raise SandboxUnavailable(f"there is no {candidates[0]}: give python= the prefix of an environment")
    folders = [prefix.absolute(), prefix.resolve(), executable.resolve().parent.parent]
    if python is None:
        folders.append(Path(sys.base_prefix))
    kept: list[str] = []
    for folder in folders:
        if folder in (Path("/"), Path.home(), Path("/home"), Path("/root"), Path("/tmp")):
            raise SandboxUnavailable(f"the environment {folder} would show more than an environment: use a venv")
        inside_system = any(folder.is_relative_to(path) for path in SYSTEM)
        if not inside_system and not any(folder.is_relative_to(path) for path in kept):
            kept.append(str(folder))
    return str(executable.absolute()), kept


def config_of(
    executable: str,
    environments: list[str],
    preload: Sequence[str],
    tiers: Sequence[str],
    groups: Groups,
    folder: str | None,
) -> dict[str, Any]:
    """What the supervisor and the template are told."""
    package = Path(__file__).resolve().parents[2]
    return {
        "tiers": list(tiers),
        "environments": environments,
        "hidden": [str(package)] if package.name == "forethought" else [],
        "preload": list(preload),
        "groups": [str(base) for base in set(groups.bases.values())],
        "folder": folder,
        "environment": {
            "PATH": f"{Path(executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            **_QUIET,
        },
    }


def spawn(executable: str, channel: socket.socket, config: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the supervisor; raises `SandboxUnavailable`."""
    where = str(Path(inside.__file__).parent)
    arguments = [where, str(channel.fileno()), str(os.getpid()), json.dumps(config)]
    try:
        return subprocess.Popen(
            [executable, "-s", "-B", "-c", _BOOT, *arguments],
            pass_fds=[channel.fileno()],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"{executable} does not start: {error}") from error
