"""`forethought/FanOut-v0`: work that can or cannot be split into parallel sub-tasks, to measure delegation."""

from .env import FanOutEnv
from .tasks import FanOutTasks

__all__ = ["FanOutEnv", "FanOutTasks"]
