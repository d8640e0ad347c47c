import json
from typing import Any

import gymnasium
import pytest

from forethought.envs import Task, ToolEnv
from forethought.envs.conformance import EnvConformance
from forethought.envs.stream import StreamEnv
from forethought.envs.stream.scripts import Script, oracle
from forethought.envs.tasks import TaskError

READ = "<tool_call> read </tool_call>"
PLAN = "<plan> 1. E1 R1 2. R2 ( after 1 ) </plan>"
CHUNKS = ["E1 R1 E9 ; E4 R2 E5 ;", "E1 R1 E2 ; E7 R7 E8 ;", "E2 R2 E3 ; E6 R6 E1 ;", "E8 R8 E9 ; E5 R5 E5 ;"]
TASK = Task(
    id="t", prompt="query E1 R1 R2", answer="E3",
    metadata={
        "chunks": CHUNKS, "query": ["E1", "R1", "R2"], "queries": [["E1", "R1", "R2"]], "path": ["E1", "E2", "E3"],
    },
)  # fmt: skip


class TestStreamInWords(EnvConformance):
    def make(self, **kwargs: Any) -> ToolEnv:
        return StreamEnv(**kwargs)

    def solve(self, env: ToolEnv) -> Script:
        return oracle(env)


class TestStreamInJson(TestStreamInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return StreamEnv(spelling="json", **kwargs)


class TestBareStream(TestStreamInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return StreamEnv(mode="bare", **kwargs)


class TestStreamWithTheQueryAtItsEnd(TestStreamInWords):
    def make(self, **kwargs: Any) -> ToolEnv:
        return StreamEnv(query="end", hops=(1, 2), **kwargs)


def play(*turns: str) -> dict[str, float]:
    """Scores of an episode in `TASK`."""
    env = StreamEnv(tasks=[TASK], summaries=True)
    env.reset(seed=0)
    info: dict[str, Any] = {}
    for number, turn in enumerate(turns):
        *_, info = env.step(f"{PLAN} {turn}" if number == 0 else turn)
    assert info["stop_reason"] == "answered"
    scores: dict[str, float] = info["scores"]
    return scores


def test_each_chunk_is_read_once_then_the_stream_has_ended() -> None:
    env = StreamEnv(tasks=[TASK])
    env.reset(seed=0)
    observations = [env.step(f"{PLAN} {READ}")[0], *(env.step(READ)[0] for _ in range(5))]
    assert observations[:4] == [f"<tool_response> {chunk} </tool_response>" for chunk in CHUNKS]
    assert observations[4:] == ["<tool_response> end </tool_response>"] * 2


def test_it_can_be_made_by_its_id() -> None:
    env = gymnasium.make("forethought/Stream-v0", chunks=(4, 4), query="end", hops=(2, 2))
    prompt, info = env.reset(seed=1)
    assert prompt.split()[0] == "query" and prompt.split()[4] == "or"
    assert info["task_id"].startswith("stream1-train-4to4x5-")


def test_models_that_were_not_trained_on_it_are_told_what_a_stream_is() -> None:
    task = StreamEnv().tasks[0]
    words, _ = StreamEnv().reset(options={"task": task})
    told, _ = StreamEnv(spelling="json").reset(options={"task": task})
    assert words == task.prompt
    assert told.endswith(f"\n\n{task.prompt}") and "replaces the earlier one" in told


def test_without_a_summary_everything_that_was_read_is_remembered() -> None:
    assert play(READ, READ, READ, "<answer> E3 </answer>") == {"correct": 1.0, "fact_recall": 1.0}
    assert play(READ, READ, "<answer> E5 </answer>") == {"correct": 0.0, "fact_recall": 0.5}


def test_a_summary_is_all_that_is_left_of_what_came_before() -> None:
    kept = "<summary> E1 R1 E2 E7 R7 E8 </summary>"
    assert play(READ, READ, kept, READ, READ, "<answer> E3 </answer>") == {
        "correct": 1.0, "fact_recall": 1.0, "stale": 0.0, "updated": 1.0, "precision": 0.5,
    }  # fmt: skip
    assert play(READ, READ, READ, READ, kept, "<answer> E3 </answer>")["fact_recall"] == 0.5
    assert play(READ, READ, READ, kept, READ, "<summary> </summary>", "<answer> E3 </answer>") == {
        "correct": 1.0, "fact_recall": 0.0,
    }  # fmt: skip


def test_a_summary_that_keeps_an_old_value_is_stale() -> None:
    scores = play(READ, READ, READ, "<summary> E1 R1 E9 E2 R2 E3 </summary>", READ, "<answer> E3 </answer>")
    assert scores == {"correct": 1.0, "fact_recall": 0.5, "stale": 0.5, "updated": 0.0, "precision": 0.5}


def test_what_a_window_holds_back_is_read_after_the_summary() -> None:
    # The summary has nothing of the second chunk, so the chunk stands in the context after it; the old value in the
    # summary was no mistake when it was written.
    scores = play(READ, READ, "<summary> E1 R1 E9 </summary>", READ, "<answer> E3 </answer>")
    assert scores == {"correct": 1.0, "fact_recall": 1.0, "stale": 0.0, "precision": 1.0}
    # The next summary was written with the second chunk in sight.
    twice = play(
        READ, READ, "<summary> E1 R1 E9 </summary>", READ, "<summary> E1 R1 E9 </summary>", "<answer> x </answer>"
    )
    assert twice == {"correct": 0.0, "fact_recall": 0.5, "stale": 1.0, "updated": 0.0, "precision": 0.0}


def test_malformed_turns_do_not_move_what_a_summary_is_about() -> None:
    scores = play(READ, READ, "oops", "<summary> E1 R1 E9 </summary>", READ, "<answer> E3 </answer>")
    assert scores["fact_recall"] == 1.0 and scores["stale"] == 0.0


def test_a_task_of_another_family_is_refused() -> None:
    with pytest.raises(TaskError, match=r"'t' is not of the Stream family: its metadata lacks 'chunks'"):
        StreamEnv(tasks=[Task(id="t", prompt="?")]).reset()


def test_episodes_of_one_task_do_not_share_what_was_read() -> None:
    env = StreamEnv()
    task = json.loads(json.dumps(env.tasks[3].to_row()))
    firsts = []
    for _ in range(2):
        env.reset(options={"task": task})
        firsts.append(env.step(next(oracle(env)))[0])
    assert firsts[0] == firsts[1]
