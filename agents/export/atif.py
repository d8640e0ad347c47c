"""Episodes as trajectories in ATIF, Harbor's Agent Trajectory Interchange Format, and back.

Follows the models of harbor 0.25 (`harbor.models.trajectories`). Nothing here needs more than ATIF 1.7, so that is what
is written: readers of 1.7 and of 1.8 take it.

- The episode is the root trajectory; every sub-task that the policy answered itself is an embedded sub-agent trajectory
  of the one that handed it out, and the call's observation refers to it.
- A turn is an agent step: its text as it was sampled, what stands in `<think>` as reasoning, its calls, their outputs.
  `metrics` hold the sampled token ids and their log-probabilities; `prompt_tokens` is the length of the context.
- What ATIF has no field for stands in `extra.forethought`: of the trajectory the rest of the episode, with the tokens
  that the policy was given, and of each step and call the rest of theirs. `episode_from_atif` puts it together again.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections import defaultdict
from typing import Any

from ...envs.protocol import SectionKind
from ...envs.protocol.codecs import MARKERS
from ...envs.tools import CallResult
from ..episode import Episode, PlanVersion, SectionSpan, Segment, SegmentKind, Status, Turn
from ..episode_rows import SCHEMA

ATIF_VERSION = "ATIF-v1.7"
_EXTRA = "forethought"
_PLAIN_FIELDS = (
    "id", "task_id", "attempt", "env", "task", "seed", "window", "scores", "reward", "answer", "usage", "stop_reason",
    "fault", "retries",
)  # fmt: skip
_CALL_FIELDS = ("step", "error", "model", "child", "sampled_tokens", "cost", "stop_reason")
_THINK = re.compile("{}(.*?){}".format(*map(re.escape, MARKERS[SectionKind.THINK])), re.DOTALL)


class AtifError(ValueError):
    """A trajectory is no episode of ours; the message says what is missing."""


def episode_to_atif(episode: Episode, agent: str = "forethought") -> dict[str, Any]:
    """The trajectory of an episode.

    Args:
        episode: The episode.
        agent: Name of the agent.
    """
    tasks: dict[int, list[int]] = defaultdict(list)
    """Sub-tasks by the task (first segment) that handed them out."""
    for number, segment in enumerate(episode.segments):
        if segment.kind is SegmentKind.SUB_CALL and segment.parent is not None:
            tasks[episode.task_of(segment.parent[0])].append(number)
    trajectory = _trajectory(episode, 0, tasks, agent)
    trajectory["session_id"] = episode.id
    usage = episode.usage
    trajectory["final_metrics"] = {
        "total_prompt_tokens": round(usage.get("context_tokens", 0) - usage.get("sampled_tokens", 0)),
        "total_completion_tokens": episode.sampled_tokens(),
        "total_cost_usd": usage.get("cost", 0.0),
        "total_steps": len(trajectory["steps"]),
        "extra": {"reward": episode.reward, "scores": episode.scores},
    }
    rest = {name: getattr(episode, name) for name in _PLAIN_FIELDS}
    rest |= {
        "schema": SCHEMA,
        "status": str(episode.status),
        "plans": [{"turn": plan.turn, "steps": plan.steps} for plan in episode.plans],
        "segments": [_segment(episode, number) for number in range(len(episode.segments))],
    }
    trajectory["extra"] = {_EXTRA: rest}
    return trajectory


def episode_from_atif(trajectory: dict[str, Any]) -> Episode:
    """The episode of a trajectory that `episode_to_atif` wrote.

    Raises:
        AtifError: it was written by something else, or by a newer version.
    """
    rest = (trajectory.get("extra") or {}).get(_EXTRA)
    if not isinstance(rest, dict):
        raise AtifError(f"expected a trajectory with extra.{_EXTRA}, which Forethought writes; found none")
    if rest["schema"] != SCHEMA:
        raise AtifError(f"the trajectory holds an episode of schema {rest['schema']!r}, this version reads {SCHEMA!r}")
    turns: dict[int, tuple[Turn, dict[str, Any]]] = {}
    _read_steps(trajectory, turns)
    segments = [_read_segment(row) for row in rest["segments"]]
    for turn, metrics in turns.values():
        segment = segments[turn.segment]
        segment.token_ids[turn.start : turn.end] = metrics["completion_token_ids"]
        segment.sampled[turn.start : turn.end] = [1] * (turn.end - turn.start)
        segment.logprobs[turn.start : turn.end] = metrics.get("logprobs") or [0.0] * (turn.end - turn.start)
    for segment, row in zip(segments, rest["segments"], strict=True):
        for at, sampled in row["sampled"]:
            segment.sampled[at] = sampled
        for at, logprob in row["logprobs"]:
            segment.logprobs[at] = float(logprob)
    fields = {name: rest[name] for name in _PLAIN_FIELDS}
    return Episode(
        **fields,
        status=Status(rest["status"]),
        segments=segments,
        turns=[turns[number][0] for number in sorted(turns)],
        plans=[PlanVersion(**plan) for plan in rest["plans"]],
    )


def _trajectory(episode: Episode, task: int, tasks: dict[int, list[int]], agent: str) -> dict[str, Any]:
    """The trajectory of the episode (task 0) or of the sub-task that began with segment `task`."""
    prompt = str(episode.task.get("prompt", "")) if task == 0 else _handed_out(episode, task)
    steps: list[dict[str, Any]] = [{"step_id": 1, "source": "user", "message": prompt}]
    mine = [(number, turn) for number, turn in enumerate(episode.turns) if _task_of(episode, turn) == task]
    steps += [_step(episode, number, turn, at) for at, (number, turn) in enumerate(mine, 2)]
    trajectory: dict[str, Any] = {
        "schema_version": ATIF_VERSION,
        "trajectory_id": _name(episode, task),
        "agent": {"name": agent, "version": importlib.metadata.version("forethought")},
        "steps": steps,
    }
    if tasks[task]:
        trajectory["subagent_trajectories"] = [_trajectory(episode, child, tasks, agent) for child in tasks[task]]
    return trajectory


def _task_of(episode: Episode, turn: Turn) -> int:
    return episode.task_of(turn.segment) if turn.segment < len(episode.segments) else 0


def _name(episode: Episode, task: int) -> str:
    return f"{episode.id}#{task}" if task else episode.id


def _handed_out(episode: Episode, task: int) -> str:
    """What a sub-task was asked, in the words of the call that handed it out."""
    for turn in episode.turns:
        for call in turn.calls:
            if call.child == task:
                parts = (str(call.arguments.get(name, "")).strip() for name in ("task", "context"))
                return "\n\n".join(part for part in parts if part)
    return ""


def _step(episode: Episode, number: int, turn: Turn, at: int) -> dict[str, Any]:
    segment = episode.segments[turn.segment] if turn.segment < len(episode.segments) else Segment()
    logprobs = segment.logprobs[turn.start : turn.end]
    finite = all(map(math.isfinite, logprobs))
    step: dict[str, Any] = {
        "step_id": at,
        "source": "agent",
        "message": turn.text,
        "llm_call_count": 1,
        "metrics": {
            "prompt_tokens": turn.start,
            "completion_tokens": turn.end - turn.start,
            "completion_token_ids": segment.token_ids[turn.start : turn.end],
            **({"logprobs": logprobs} if finite else {}),
        },
        "observation": {"results": _results(episode, number, turn)},
        "extra": {
            _EXTRA: {
                "turn": number,
                "segment": turn.segment,
                "start": turn.start,
                "end": turn.end,
                "observation": turn.observation,
                "error": turn.error,
                "seconds": turn.seconds,
                "sampling_seconds": turn.sampling_seconds,
            }
        },
    }
    thoughts = _THINK.findall(turn.text)
    if thoughts:
        step["reasoning_content"] = "\n".join(thought.strip() for thought in thoughts)
    if turn.calls:
        step["tool_calls"] = [
            {
                "tool_call_id": _call_id(number, i),
                "function_name": call.name,
                "arguments": call.arguments,
                "extra": {_EXTRA: {name: getattr(call, name) for name in _CALL_FIELDS}},
            }
            for i, call in enumerate(turn.calls)
        ]
    return step


def _results(episode: Episode, number: int, turn: Turn) -> list[dict[str, Any]]:
    if not turn.calls:
        return [{"content": turn.observation}] if turn.observation else []
    results = []
    for i, call in enumerate(turn.calls):
        result: dict[str, Any] = {"source_call_id": _call_id(number, i), "content": call.output}
        if call.child is not None:
            result["subagent_trajectory_ref"] = [
                {"trajectory_id": _name(episode, call.child), "session_id": episode.id}
            ]
        results.append(result)
    return results


def _call_id(turn: int, call: int) -> str:
    return f"call-{turn}-{call}"


def _segment(episode: Episode, number: int) -> dict[str, Any]:
    """What the steps do not say of a segment: tokens outside its turns, and what its places do not tell."""
    segment = episode.segments[number]
    inside = [0] * len(segment.token_ids)
    whole = [False] * len(segment.token_ids)
    """Whether a step's metrics hold the token's log-probability."""
    for turn in episode.turns:
        if turn.segment == number:
            length = turn.end - turn.start
            inside[turn.start : turn.end] = [1] * length
            whole[turn.start : turn.end] = [all(map(math.isfinite, segment.logprobs[turn.start : turn.end]))] * length
    return {
        "kind": str(segment.kind),
        "parent": None if segment.parent is None else list(segment.parent),
        "sections": [[span.kind, span.start, span.end] for span in segment.sections],
        "length": len(segment.token_ids),
        "given": [token for token, is_inside in zip(segment.token_ids, inside, strict=True) if not is_inside],
        "outside": _runs(inside),
        "sampled": [[at, s] for at, s in enumerate(segment.sampled) if s != inside[at]],
        "logprobs": [
            [at, logprob if math.isfinite(logprob) else str(logprob)]
            for at, logprob in enumerate(segment.logprobs)
            if not whole[at] and logprob != 0.0
        ],
    }


def _runs(inside: list[int]) -> list[list[int]]:
    """The stretches of zeros as [start, end]."""
    edges = [at for at in range(len(inside) + 1) if (inside[at : at + 1] == [0]) != (at > 0 and inside[at - 1] == 0)]
    return [edges[i : i + 2] for i in range(0, len(edges), 2)]


def _read_segment(row: dict[str, Any]) -> Segment:
    token_ids = [0] * row["length"]
    taken = 0
    for start, end in row["outside"]:
        token_ids[start:end] = row["given"][taken : taken + end - start]
        taken += end - start
    return Segment(
        kind=SegmentKind(row["kind"]),
        parent=None if row["parent"] is None else (row["parent"][0], row["parent"][1]),
        token_ids=token_ids,
        sampled=[0] * row["length"],
        logprobs=[0.0] * row["length"],
        sections=[SectionSpan(*span) for span in row["sections"]],
    )


def _read_steps(trajectory: dict[str, Any], turns: dict[int, tuple[Turn, dict[str, Any]]]) -> None:
    for step in trajectory["steps"]:
        rest = (step.get("extra") or {}).get(_EXTRA)
        if rest is None:
            continue
        outputs = {result.get("source_call_id"): result.get("content") for result in step["observation"]["results"]}
        calls = [
            CallResult(
                name=call["function_name"],
                arguments=call["arguments"],
                output=outputs[call["tool_call_id"]],
                **call["extra"][_EXTRA],
            )
            for call in step.get("tool_calls", ())
        ]
        fields = {name: rest[name] for name in ("observation", "segment", "start", "end", "error", "seconds")}
        turn = Turn(text=step["message"], calls=calls, sampling_seconds=rest["sampling_seconds"], **fields)
        turns[rest["turn"]] = turn, step["metrics"]
    for inner in trajectory.get("subagent_trajectories") or ():
        _read_steps(inner, turns)
