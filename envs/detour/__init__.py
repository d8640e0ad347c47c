"""`forethought/Detour-v0`: several routes to the answer, some of them broken, to measure recovery from a wrong plan."""

from .env import DetourEnv
from .tasks import DetourTasks

__all__ = ["DetourEnv", "DetourTasks"]
