"""Sandboxes on other machines: a server of ours and its client, and clients of two services of others."""

from .client import RemoteSandbox
from .e2b import E2BSandbox
from .sandbox_fusion import SandboxFusionSandbox

__all__ = ["E2BSandbox", "RemoteSandbox", "SandboxFusionSandbox"]
