"""Backends by name."""

from __future__ import annotations

from typing import Any

from .faults import SandboxUnavailable
from .sandbox import Limits, Sandbox, SandboxUsageError

LOCAL_BACKENDS = ("embedded", "docker")
REMOTE_BACKENDS = ("remote", "sandbox-fusion", "e2b")


def make_sandbox(name: str, limits: Limits | None = None, **options: Any) -> Sandbox:
    """A backend.

    Args:
        name: `embedded` or `docker` on this machine, `remote` for a server of ours, `sandbox-fusion` or `e2b` for those
            services.
        limits: Of every session.
        options: Of the backend's class, such as `url` and `token` of `remote`.

    Raises:
        SandboxUsageError: there is no such backend, or it has no such options.
        SandboxUnavailable: what it needs is not installed.
    """
    kind = _kind(name)
    try:
        sandbox: Sandbox = kind(limits=limits or Limits(), **options)
    except TypeError as error:
        raise SandboxUsageError(f"the options of the sandbox backend {name!r} do not fit: {error}") from None
    return sandbox


def _kind(name: str) -> Any:
    if name == "embedded":
        from .embedded import EmbeddedSandbox

        return EmbeddedSandbox
    if name == "docker":
        from .docker_backend import DockerSandbox

        return DockerSandbox
    if name not in REMOTE_BACKENDS:
        names = ", ".join(map(repr, LOCAL_BACKENDS + REMOTE_BACKENDS))
        raise SandboxUsageError(f"there is no sandbox backend {name!r}; choose one of {names}")
    try:
        from . import remote
    except ModuleNotFoundError as error:
        raise SandboxUnavailable(
            f"the sandbox {name!r} needs {error.name}, which is not installed: pip install 'forethought[remote]'"
        ) from None
    return {
        "remote": remote.RemoteSandbox,
        "sandbox-fusion": remote.SandboxFusionSandbox,
        "e2b": remote.E2BSandbox,
    }[name]
