"""Where code runs. Embedded, Docker and remote sandboxes build on the two kinds of failure defined in `faults`."""

from .faults import InfrastructureFault, SandboxUnavailable

__all__ = ["InfrastructureFault", "SandboxUnavailable"]
