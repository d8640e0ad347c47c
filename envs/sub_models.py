"""Sub-models: a policy hands a part of its task to another model, or to itself in a fresh context."""

from __future__ import annotations

import zlib

from .tasks import Task
from .tool_env import ToolEnv
from .tools import OverBudgetError, SubAnswer, Tool, ToolError

ASK = "ask"
SELF = "self"
"""Name of the sub-model that is the policy itself, in a fresh context."""


class SubTaskEnv(ToolEnv):
    """The environment of a sub-task: the tools, the protocol and the budget of the one that asked, a fresh context.

    What it uses counts in the budget of the whole tree. It has no scores: a sub-task is worth what its answer is worth
    to the episode.

    Args:
        parent: The environment whose policy asked.
        prompt: The sub-task.
        number: How many sub-tasks the parent handed out before this one.
    """

    def __init__(self, parent: ToolEnv, prompt: str, number: int) -> None:
        task = Task(id=f"{parent.task.id}/{number}", prompt=prompt)
        super().__init__(
            [task],
            mode=parent.mode,
            spelling=parent.codec.spelling,
            budget=parent.budget,
            max_output=parent.toolbox.max_output,
        )
        self.parent = parent
        self.toolbox.add(tool for tool in parent.toolbox.tools if tool.name != ASK)
        if parent.sub_models and self.depth < self.budget.depth:
            self.sub_models = parent.sub_models
            self.toolbox.add([ask_tool(self)])
        self.number = number
        self.version: str = parent.version  # type: ignore[misc]
        self.summaries = parent.summaries
        self.clock = parent.clock
        self.answer_sub_task = parent.answer_sub_task
        self.reset(seed=zlib.crc32(f"{parent.np_random_seed}/{number}".encode()), options={"task": task})

    def score(self, answer: str | None) -> dict[str, float]:
        """Nothing."""
        return {}


def ask_tool(env: ToolEnv) -> Tool:
    """The tool `ask` for the policy of `env`; with more than one sub-model, the policy names the one to ask."""

    async def ask(task: str, context: str = "", model: str = env.sub_models[0]) -> SubAnswer:
        """Hand a part of the task to a sub-model, which knows only what you write here; returns its answer.

        Args:
            task: What it shall do, and in what form it shall answer.
            context: What it needs to know.
            model: Which sub-model to ask.
        """
        return await _answer(env, task, context, model)

    tool = Tool.from_function(ask)
    tool.timeout = None  # a sub-task ends by its budget
    if len(env.sub_models) > 1:
        tool.parameters["properties"]["model"]["enum"] = list(env.sub_models)
    else:
        del tool.parameters["properties"]["model"]
    return Tool(ASK, tool.description, tool.parameters, ask, timeout=None, is_async=True)


async def _answer(env: ToolEnv, task: str, context: str, model: str) -> SubAnswer:
    """Have a sub-task answered within the budget of the tree.

    Raises:
        ToolError: there is nothing to do, or nobody to ask.
        OverBudgetError: no calls to sub-models are left, in the tree or in this turn.
        InfrastructureFault: the sub-model cannot be reached.
    """
    if env.answer_sub_task is None:
        raise ToolError("no sub-model can be asked here: a rollout brings them, a bare environment has none")
    if not task.strip():
        raise ToolError("expected a task to hand over, found an empty one")
    limits, usage = env.budget, env.usage
    if limits.sub_calls is not None and usage.tree.sub_calls >= limits.sub_calls:
        raise OverBudgetError("no calls to sub-models left")
    if limits.width is not None and env.asked_in_turn >= limits.width:
        raise OverBudgetError(f"no more than {limits.width} calls to sub-models in one turn")
    sub_task = SubTaskEnv(env, env.codec.join(task.strip(), context.strip()), env.asked)
    _count(env, 1)
    try:
        answer = await env.answer_sub_task(sub_task, model)
    except OverBudgetError:  # a replay refuses what was refused
        _count(env, -1)
        raise
    usage.count(cost=answer.cost)
    return answer


def _count(env: ToolEnv, calls: int) -> None:
    env.asked += calls
    env.asked_in_turn += calls
    env.usage.count(sub_calls=calls)
