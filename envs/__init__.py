"""Gymnasium environments in which language models plan, think, and act or answer.

Importing this package registers the environments (`gymnasium.make("forethought/Pointer-v0")`); it imports none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .registration import register_environments

if TYPE_CHECKING:
    from .budgets import Budget
    from .protocol import Call, Codec, FormatError, Mode, Plan, PlanStep, Spelling, TurnParser, codec_for, parse_turn
    from .spaces import AnyText
    from .sub_models import SubTaskEnv
    from .tasks import (
        DatasetTasks,
        GeneratedTasks,
        JsonLinesTasks,
        ListedTasks,
        Split,
        Task,
        TaskError,
        TaskSet,
    )
    from .tool_env import StepOutcome, ToolEnv
    from .tools import ToolError, tool

_HOME = {
    "AnyText": "spaces",
    "Budget": "budgets",
    "Call": "protocol",
    "Codec": "protocol",
    "DatasetTasks": "tasks",
    "FormatError": "protocol",
    "GeneratedTasks": "tasks",
    "JsonLinesTasks": "tasks",
    "ListedTasks": "tasks",
    "Mode": "protocol",
    "Plan": "protocol",
    "PlanStep": "protocol",
    "Spelling": "protocol",
    "Split": "tasks",
    "StepOutcome": "tool_env",
    "SubTaskEnv": "sub_models",
    "Task": "tasks",
    "TaskError": "tasks",
    "TaskSet": "tasks",
    "ToolEnv": "tool_env",
    "ToolError": "tools",
    "TurnParser": "protocol",
    "codec_for": "protocol",
    "parse_turn": "protocol",
    "tool": "tools",
}
__all__ = [
    "AnyText",
    "Budget",
    "Call",
    "Codec",
    "DatasetTasks",
    "FormatError",
    "GeneratedTasks",
    "JsonLinesTasks",
    "ListedTasks",
    "Mode",
    "Plan",
    "PlanStep",
    "Spelling",
    "Split",
    "StepOutcome",
    "SubTaskEnv",
    "Task",
    "TaskError",
    "TaskSet",
    "ToolEnv",
    "ToolError",
    "TurnParser",
    "codec_for",
    "parse_turn",
    "tool",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package stays quick."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


register_environments()
