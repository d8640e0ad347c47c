"""The embedded sandbox: sessions as confined forks of a warm interpreter. Linux, no daemon, no privileges needed."""

from .sandbox import EmbeddedSandbox

__all__ = ["EmbeddedSandbox"]
