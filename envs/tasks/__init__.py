"""Tasks and where they come from: a generator, a JSON Lines file or a Hugging Face data set."""

from .sources import DatasetTasks, GeneratedTasks, JsonLinesTasks, ListedTasks, as_task_set
from .splits import SPLIT_START, Split
from .task import Task, TaskError
from .task_set import TaskSet

__all__ = [
    "SPLIT_START",
    "DatasetTasks",
    "GeneratedTasks",
    "JsonLinesTasks",
    "ListedTasks",
    "Split",
    "Task",
    "TaskError",
    "TaskSet",
    "as_task_set",
]
