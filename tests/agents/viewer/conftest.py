"""Runs made by hand: every kind of context and call, in tokens that are bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forethought.agents import Episode, EpisodeWriter, Segment, SegmentKind, Status
from forethought.agents.episode import PlanVersion, SectionSpan, Turn
from forethought.agents.viewer import RunIndex
from forethought.envs.tools import CallResult

HOSTILE = (
    "<script>document.title='boom'</script></script><img src=http://127.0.0.1:9/x onerror=\"document.title='boom'\">"
    "\"' onmouseover=boom \x1b[31mred\x1b]0;title\x07\x1b]8;;http://127.0.0.1:9/\x07link "
    "\x00null \u202egnp.exe\u2066 \x9b2J \r over"
)
_SECTION = re.compile(r"<(plan|think|tool_call|summary|answer)>.*?</\1>", re.DOTALL)
_EOS = 256


class EpisodeBuilder:
    """Writes an episode turn by turn, like a rollout does."""

    def __init__(self, number: int, **fields: Any) -> None:
        task_id = fields.pop("task_id", f"task-{number}")
        attempt = fields.pop("attempt", 0)
        prompt = fields.pop("prompt", f"Question {number}: who wrote it?")
        self.episode = Episode(
            **{
                "id": f"{task_id}/{attempt}", "task_id": task_id, "attempt": attempt, "seed": number,
                "env": {"id": "tests/Any-v0", "version": "1", "kwargs": {"score_weights": {"correct": 1.0}}},
                "task": {"id": task_id, "prompt": prompt, "answer": "Ada", "difficulty": 2.0},
                "scores": {"correct": 1.0, "cost": 0.25}, "reward": 1.0, "answer": "Ada", "stop_reason": "answered",
                "usage": {"turns": 1.0}, "window": {"limit": 4096, "policy": "learned"}, **fields,
            }
        )  # fmt: skip
        self.context(SegmentKind.ROOT, None, prompt)

    def context(self, kind: SegmentKind, parent: int | None, text: str) -> int:
        """Begin a context; returns its number."""
        position = None if parent is None else (parent, len(self.episode.segments[parent].token_ids))
        segment = Segment(kind=kind, parent=position)
        segment.give(list(text.encode("utf-8", "replace")))
        self.episode.segments.append(segment)
        return len(self.episode.segments) - 1

    def turn(
        self, text: str, observation: str = "", *, segment: int = 0, calls: list[CallResult] | None = None,
        plan: list[str] | None = None, error: str | None = None, logprob: float = -0.5,
    ) -> EpisodeBuilder:  # fmt: skip
        """Write a turn."""
        part = self.episode.segments[segment]
        start, data = len(part.token_ids), text.encode("utf-8", "replace")
        for match in _SECTION.finditer(text):
            kind = "call" if match[1] == "tool_call" else match[1]
            begin = len(text[: match.start()].encode("utf-8", "replace"))
            length = len(match[0].encode("utf-8", "replace"))
            part.sections.append(SectionSpan(kind, start + begin, start + begin + length))
        part.append_sampled([*data, _EOS], [logprob * (i % 7) for i in range(len(data) + 1)])
        if plan is not None:
            steps = [{"number": i, "text": step, "after": [i - 1] if i > 1 else []} for i, step in enumerate(plan, 1)]
            self.episode.plans.append(PlanVersion(turn=len(self.episode.turns), steps=steps))
        self.episode.turns.append(
            Turn(
                text=text,
                observation=observation,
                segment=segment,
                start=start,
                end=len(part.token_ids),
                calls=calls or [],
                error=error,
                seconds=0.2,
                sampling_seconds=1.5,
            )
        )
        part.give(list(observation.encode("utf-8", "replace")))
        return self


def call(name: str, output: str, step: int | None = None, **fields: Any) -> CallResult:
    return CallResult(
        name=name, arguments=fields.pop("arguments", {"query": "who wrote it"}), step=step, output=output, **fields
    )


def plain_episode(number: int, **fields: Any) -> Episode:
    text = "<plan>\n1. look\n2. answer\n</plan>\n<think>easy</think>\n<tool_call>look</tool_call>"
    builder = EpisodeBuilder(number, **fields)
    builder.turn(text, "Ada did", calls=[call("look", "Ada did", 1)], plan=["look", "answer"])
    return builder.turn("<answer>Ada</answer>").episode


def rich_episode(number: int = 0, text: str = "", **fields: Any) -> Episode:
    """An episode with two plans, a repeated call, a summary, two sub-calls of one turn and a malformed turn."""
    builder = EpisodeBuilder(number, **{"prompt": f"Who wrote the first program? {text}", **fields})
    builder.turn(
        f"<plan>\n1. search\n2. check\n</plan>\n<think>Let me look it up. {text}</think>\n"
        "<tool_call>search</tool_call>",
        f"nothing found {text}", plan=[f"search the archive {text}", "check what was found"],
        calls=[call("search", f"nothing found {text}", 1)],
    )  # fmt: skip
    builder.turn(
        "<think>Again.</think><tool_call>search</tool_call>", "nothing found",
        calls=[call("search", "nothing found", 1)],
    )  # fmt: skip
    builder.turn(f"<tool_call>{{broken {text}", "expected </tool_call>, found the end", error="unclosed_section")
    builder.turn(f"<summary>The archive has nothing. {text}</summary>", "Who wrote it? The archive has nothing.")
    second = builder.context(SegmentKind.AFTER_SUMMARY, 0, "Who wrote it? The archive has nothing.")
    builder.turn(
        "<plan>\n1. ask two\n2. compare\n</plan>\n<tool_call>ask a</tool_call><tool_call>ask b</tool_call>", "Ada, Bob",
        segment=second, plan=["ask two readers", "compare"],
        calls=[
            call("ask", "Ada", 1, model="self", child=2, sampled_tokens=30, stop_reason="answered"),
            call("ask", f"Error: {text}", 1, model="self", child=3, sampled_tokens=90, error="tool_error"),
        ],
    )  # fmt: skip
    position = builder.episode.turns[-1].end
    for words in ("short", f"a much longer train of thought, which ends {text}"):
        child = builder.context(SegmentKind.SUB_CALL, second, "Read the letter.")
        builder.episode.segments[child].parent = (second, position)
        builder.turn(f"<plan>\n1. read\n</plan>\n<think>{words}</think>", segment=child, plan=["read"])
        builder.turn("<answer>Ada</answer>", segment=child)
    builder.turn(f"<answer>Ada {text}</answer>", segment=second, logprob=-0.9)
    return builder.episode


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    def write(episodes: list[Episode], name: str = "run") -> Path:
        with EpisodeWriter(tmp_path / name) as writer:
            for episode in episodes:
                writer.append(episode)
        return tmp_path / name

    return write


@pytest.fixture
def mixed_run(write_run: Callable[..., Path]) -> Path:
    """Ten episodes: 0 rich, 3 wrong, 4 truncated, 5 a fault that 6 tries again, 9 on the task of 8."""
    episodes = [rich_episode(0), *(plain_episode(i, reward=i / 10) for i in range(1, 10))]
    episodes[3].scores["correct"] = 0.0
    episodes[4].status, episodes[4].stop_reason = Status.TRUNCATED, "turns"
    episodes[5] = plain_episode(6, status=Status.FAULT, fault="the server is gone")
    episodes[9] = plain_episode(9, task_id="task-8", attempt=1)
    return write_run(episodes)


def append_line(folder: Path, line: bytes | dict[str, Any]) -> None:
    data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
    with (folder / "episodes.jsonl").open("ab") as file:
        file.write(data)


def first_row(folder: Path) -> dict[str, Any]:
    with (folder / "episodes.jsonl").open("rb") as file:
        row: dict[str, Any] = json.loads(file.readline())
    return row


@pytest.fixture
def open_index() -> Iterator[Callable[[Path], RunIndex]]:
    opened: list[RunIndex] = []

    def open_(folder: Path) -> RunIndex:
        opened.append(RunIndex(folder, folder.name))
        opened[-1].start()
        assert opened[-1].wait(30)
        return opened[-1]

    yield open_
    for index in opened:
        index.close()
