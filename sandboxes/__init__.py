"""Where code runs: one interface, several backends; and the two kinds of failure."""

from typing import TYPE_CHECKING, Any

from .faults import InfrastructureFault, SandboxUnavailable
from .sandbox import Limits, RunResult, RunStatus, Sandbox, SandboxUsageError, Session

if TYPE_CHECKING:
    from .docker_backend import DockerSandbox
    from .embedded import EmbeddedSandbox
    from .remote import RemoteSandbox

__all__ = [
    "DockerSandbox",
    "EmbeddedSandbox",
    "InfrastructureFault",
    "Limits",
    "RemoteSandbox",
    "RunResult",
    "RunStatus",
    "Sandbox",
    "SandboxUnavailable",
    "SandboxUsageError",
    "Session",
]


def __getattr__(name: str) -> Any:
    # Loaded on use: they need Linux's modules, or an extra, which others lack.
    if name == "DockerSandbox":
        from .docker_backend import DockerSandbox

        return DockerSandbox
    if name == "EmbeddedSandbox":
        from .embedded import EmbeddedSandbox

        return EmbeddedSandbox
    if name == "RemoteSandbox":
        from .remote import RemoteSandbox

        return RemoteSandbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
