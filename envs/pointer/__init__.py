"""`forethought/Pointer-v0`: follow pointers; the number of hops is the difficulty, so overthinking can be measured."""

from .env import PointerEnv
from .tasks import PointerTasks

__all__ = ["PointerEnv", "PointerTasks"]
