"""Where code runs: one interface, several backends; and the two kinds of failure."""

from .faults import InfrastructureFault, SandboxUnavailable
from .sandbox import Limits, RunResult, RunStatus, Sandbox, SandboxUsageError, Session

__all__ = [
    "InfrastructureFault",
    "Limits",
    "RunResult",
    "RunStatus",
    "Sandbox",
    "SandboxUnavailable",
    "SandboxUsageError",
    "Session",
]
