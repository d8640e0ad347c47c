"""Backends by name."""

from __future__ import annotations

from .sandbox import Limits, Sandbox, SandboxUsageError


def make_sandbox(name: str, limits: Limits | None = None) -> Sandbox:
    """The backend `embedded` or `docker`.

    Raises:
        SandboxUsageError: there is no such backend.
    """
    limits = limits or Limits()
    if name == "embedded":
        from .embedded import EmbeddedSandbox

        return EmbeddedSandbox(limits=limits)
    if name == "docker":
        from .docker_backend import DockerSandbox

        return DockerSandbox(limits=limits)
    raise SandboxUsageError(f"there is no sandbox backend {name!r}; choose 'embedded' or 'docker'")
