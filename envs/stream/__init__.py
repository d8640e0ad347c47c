"""`forethought/Stream-v0`: more facts than fit a context, out of order, some overwritten later."""

from .env import StreamEnv
from .tasks import StreamTasks

__all__ = ["StreamEnv", "StreamTasks"]
