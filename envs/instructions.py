"""The protocol in words, for models that were not trained on it."""

from __future__ import annotations

from .protocol import Mode

_PLAN = {
    Mode.PLAN: """Begin your first turn with a plan: numbered steps between <plan> and </plan>, one a line, and \
"(after 1)" behind a step that needs the result of step 1. When the plan turns out wrong, open a later turn with a new \
<plan>.
Then think between <think> and </think>, as briefly as the question allows.""",
    Mode.THINK: """You may open a turn with a plan: numbered steps between <plan> and </plan>, one a line, and \
"(after 1)" behind a step that needs the result of step 1. You may then think between <think> and </think>.""",
    Mode.BARE: "Write no plan and no thoughts.",
}
_CALL = """End each turn in one of two ways:
- tool calls, each as a JSON object between <tool_call> and </tool_call>, for example
<tool_call>
{"name": "...", "arguments": {...}, "step": 1}
</tool_call>
where "step" is the plan step that the call serves; calls of one turn run at the same time;
- the answer, and nothing else, between <answer> and </answer>."""
_SUMMARY = """You may also end a turn with a summary of what you know and still need, between <summary> and \
</summary>: your context then restarts from the task, your plan and this summary."""
_ANSWER = "End the turn with the answer, and nothing else, between <answer> and </answer>."


def protocol_rules(mode: Mode, has_tools: bool, summaries: bool) -> str:
    """The grammar of a turn for `mode`."""
    rules = [_PLAN[mode], _CALL if has_tools else _ANSWER]
    if summaries:
        rules.append(_SUMMARY)
    return "\n".join(rules)
