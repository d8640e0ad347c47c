"""Episodes as rows of the published schema `episode`: everything but the tokens, which stand in columns."""

from __future__ import annotations

import json
from typing import Any

from ..envs.tools import CallResult
from .episode import Episode, PlanVersion, SectionSpan, Segment, SegmentKind, Status, Turn

SCHEMA = "forethought/episode/1"
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def episode_to_row(episode: Episode, offset: int) -> dict[str, Any]:
    """The row of an episode whose first token is entry `offset` of the columns."""
    segments = []
    for segment in episode.segments:
        segments.append(
            {
                "kind": segment.kind,
                "parent": segment.parent,
                "offset": offset,
                "length": len(segment.token_ids),
                "sections": [(s.kind, s.start, s.end) for s in segment.sections],
            }
        )
        offset += len(segment.token_ids)
    return {
        "schema": SCHEMA,
        "id": episode.id,
        "task_id": episode.task_id,
        "attempt": episode.attempt,
        "env": episode.env,
        "task": episode.task,
        "seed": episode.seed,
        "window": episode.window,
        "segments": segments,
        "turns": [_turn_to_row(turn) for turn in episode.turns],
        "plans": [{"turn": plan.turn, "steps": plan.steps} for plan in episode.plans],
        "scores": episode.scores,
        "reward": episode.reward,
        "answer": episode.answer,
        "usage": episode.usage,
        "stop_reason": episode.stop_reason,
        "status": episode.status,
        "fault": episode.fault,
        "retries": episode.retries,
    }


def _turn_to_row(turn: Turn) -> dict[str, Any]:
    return {
        "text": turn.text,
        "observation": turn.observation,
        "segment": turn.segment,
        "start": turn.start,
        "end": turn.end,
        "calls": [_call_to_row(call) for call in turn.calls],
        "error": turn.error,
        "seconds": round(turn.seconds, 6),
        "sampling_seconds": round(turn.sampling_seconds, 6),
    }


def _call_to_row(call: CallResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": call.name,
        "arguments": call.arguments,
        "step": call.step,
        "output": call.output,
        "error": call.error,
    }
    if call.model is not None:
        row |= {
            "model": call.model,
            "child": call.child,
            "sampled_tokens": call.sampled_tokens,
            "cost": call.cost,
            "stop_reason": call.stop_reason,
        }
    return row


def episode_from_row(row: dict[str, Any]) -> Episode:
    """The episode of a row, its segments without tokens."""
    fields = {name: value for name, value in row.items() if name != "schema"}
    fields["segments"] = [
        Segment(
            kind=SegmentKind(segment["kind"]),
            parent=None if segment["parent"] is None else (segment["parent"][0], segment["parent"][1]),
            sections=[SectionSpan(*section) for section in segment["sections"]],
        )
        for segment in row["segments"]
    ]
    fields["turns"] = [
        Turn(**{**turn, "calls": [CallResult(**call) for call in turn["calls"]]}) for turn in row["turns"]
    ]
    fields["plans"] = [PlanVersion(**plan) for plan in row["plans"]]
    fields["status"] = Status(row["status"])
    return Episode(**fields)


def encode_row(row: dict[str, Any]) -> bytes:
    """One line of JSON, ASCII only, so that any text a model can write survives any reader."""
    return _ENCODER.encode(row).encode("ascii") + b"\n"
