import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from forethought.agents import Episode, EpisodeStore, EpisodeWriter, Segment, SegmentKind, Status, StoreError
from forethought.agents.episode import PlanVersion, SectionSpan, Turn
from forethought.envs.json_schema import first_violation, published_validator
from forethought.envs.tools import CallResult

TEXT = "naïve 中文 🎈\x00\ud800\u2028\n"


def episode(number: int, status: Status = Status.COMPLETED) -> Episode:
    rng = random.Random(number)
    segments = []
    for kind, parent in ((SegmentKind.ROOT, None), (SegmentKind.SUB_CALL, (0, 2))):
        length = rng.randrange(4, 40)
        segments.append(
            Segment(
                kind=kind,
                parent=parent,
                token_ids=[rng.randrange(2**31) for _ in range(length)],
                sampled=[rng.randrange(2) for _ in range(length)],
                logprobs=[-rng.randrange(1000) / 64 for _ in range(length)],
                sections=[SectionSpan("think", 1, 3)],
            )
        )
    call = CallResult(name=TEXT, arguments={"x": [1, 0.5, None, TEXT]}, step=1, output=TEXT, error="timeout")
    return Episode(
        id=f"t{number}/0",
        task_id=f"t{number}",
        attempt=0,
        env={"id": "x", "version": "1", "kwargs": {"hops": [0, 8]}},
        task={"id": f"t{number}", "prompt": TEXT},
        seed=number,
        segments=[] if status is Status.FAULT else segments,
        turns=[Turn(text=TEXT, observation=TEXT, segment=0, start=1, end=3, calls=[call], seconds=0.25)],
        plans=[PlanVersion(turn=0, steps=[{"number": 1, "text": TEXT, "after": []}])],
        scores={"correct": 1.0},
        reward=1.0,
        answer=TEXT,
        usage={"turns": 1},
        stop_reason="answered",
        status=status,
    )


def write(folder: Path, *episodes: Episode) -> None:
    with EpisodeWriter(folder) as writer:
        for item in episodes:
            writer.append(item)


def ids(folder: Path) -> list[str]:
    return [item.id for item in EpisodeStore(folder)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = [episode(i) for i in range(5)]
    write(tmp_path, *written)
    assert list(EpisodeStore(tmp_path)) == written
    write(tmp_path, episode(5))
    assert list(EpisodeStore(tmp_path)) == [*written, episode(5)]


def test_rows_fit_the_published_schema(tmp_path: Path) -> None:
    write(tmp_path, episode(0), episode(1, Status.FAULT))
    validator = published_validator("episode", "forethought.agents")
    for row in EpisodeStore(tmp_path).rows():
        assert first_violation(validator, row) is None
    assert (tmp_path / "episodes.jsonl").read_bytes().isascii()


def test_tokens_stand_in_columns(tmp_path: Path) -> None:
    written = [episode(i) for i in range(3)]
    write(tmp_path, *written)
    count = sum(len(segment.token_ids) for item in written for segment in item.segments)
    assert (tmp_path / "tokens/token_ids.i32").stat().st_size == 4 * count
    assert (tmp_path / "tokens/sampled.u8").stat().st_size == count
    assert (tmp_path / "tokens/logprobs.f32").stat().st_size == 4 * count
    assert "token_ids" not in (tmp_path / "episodes.jsonl").read_text()


def test_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no episodes in"):
        EpisodeStore(tmp_path)
    write(tmp_path)
    assert list(EpisodeStore(tmp_path)) == []


def test_a_fault_is_tried_again_and_superseded(tmp_path: Path) -> None:
    write(tmp_path, episode(0), episode(1, Status.FAULT), episode(2, Status.FAULT))
    with EpisodeWriter(tmp_path) as writer:
        assert writer.finished == {"t0/0"}
        writer.append(episode(1, Status.FAULT))
        writer.append(episode(1))
    store = EpisodeStore(tmp_path)
    assert [(item.id, item.status) for item in store] == [
        ("t0/0", "completed"),
        ("t2/0", "fault"),
        ("t1/0", "completed"),
    ]


@pytest.mark.parametrize(
    "column", ["episodes.jsonl", "tokens/token_ids.i32", "tokens/sampled.u8", "tokens/logprobs.f32"]
)
def test_what_a_killed_writer_left_behind_is_cut(tmp_path: Path, column: str) -> None:
    """Whichever file it was writing: readers skip it, the next writer cuts it."""
    write(tmp_path, episode(0), episode(1))
    with (tmp_path / column).open("ab") as file:
        file.write(b'{"id": "t2/0", "schema"')
    assert ids(tmp_path) == ["t0/0", "t1/0"]
    with EpisodeWriter(tmp_path) as writer:
        assert writer.finished == {"t0/0", "t1/0"}
        writer.append(episode(2))
    assert list(EpisodeStore(tmp_path)) == [episode(0), episode(1), episode(2)]


def test_every_cut_of_the_last_row_is_recovered(tmp_path: Path) -> None:
    write(tmp_path, episode(0))
    path = tmp_path / "episodes.jsonl"
    whole = path.stat().st_size
    write(tmp_path, episode(1))
    data = path.read_bytes()
    for end in range(whole, len(data), 97):
        path.write_bytes(data[:end])
        write(tmp_path, episode(2))
        assert list(EpisodeStore(tmp_path)) == [episode(0), episode(2)]


@pytest.mark.parametrize("line", [b"{}\n", b"nonsense\n", b'{"schema": "forethought/episode/2"}\n'])
def test_damage_is_named(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, episode(0))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(line + path.read_bytes())
    with pytest.raises(StoreError, match=r"episodes.jsonl, line 1: "):
        EpisodeWriter(tmp_path)
    with pytest.raises(StoreError, match=r"episodes.jsonl, line 1: "):
        ids(tmp_path)


def test_missing_tokens_are_named(tmp_path: Path) -> None:
    write(tmp_path, episode(0))
    os.truncate(tmp_path / "tokens/logprobs.f32", 8)
    with pytest.raises(StoreError, match=r"logprobs.f32 is shorter"):
        EpisodeWriter(tmp_path)
    with pytest.raises(StoreError, match=r"tokens of episode 't0/0' are missing"):
        ids(tmp_path)


def test_a_store_is_read_while_it_grows(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path) as writer:
        writer.append(episode(0))
        reader = iter(EpisodeStore(tmp_path))
        assert next(reader) == episode(0)
        writer.append(episode(1))
        assert next(reader) == episode(1)


class FullDisk:
    """A file on a disk that takes `room` more bytes, then is full."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file = file
        self._room = room

    def write(self, data: bytes) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._file.write(data[: self._room])
        self._room -= taken
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("file", ["_rows", 0, 1, 2])
@pytest.mark.parametrize("room", [0, 1, 7])
def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path, file: str | int, room: int) -> None:
    writer: Any = EpisodeWriter(tmp_path)
    with writer:
        writer.append(episode(0))
        held, key = (writer.__dict__, file) if isinstance(file, str) else (writer._columns, file)
        real, held[key] = held[key], FullDisk(held[key], room)
        with pytest.raises(StoreError, match=r"No space left on device; the 1 episodes before are kept"):
            writer.append(episode(1))
        assert writer.finished == {"t0/0"}
        held[key] = real  # somebody freed some space
        writer.append(episode(2))
    assert list(EpisodeStore(tmp_path)) == [episode(0), episode(2)]
    write(tmp_path, episode(3))
    assert list(EpisodeStore(tmp_path)) == [episode(0), episode(2), episode(3)]


@pytest.mark.parametrize("change", [{"reward": float("nan")}, {"env": {"kwargs": {"path": Path("/")}}}])
def test_what_json_cannot_hold_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    bad = episode(1)
    for name, value in change.items():
        setattr(bad, name, value)
    with EpisodeWriter(tmp_path) as writer:
        writer.append(episode(0))
        with pytest.raises(StoreError, match="episode 't1/0' cannot be written as JSON"):
            writer.append(bad)
        writer.append(episode(2))
    assert list(EpisodeStore(tmp_path)) == [episode(0), episode(2)]


def test_ragged_segments_are_refused(tmp_path: Path) -> None:
    bad = episode(1)
    bad.segments[0].logprobs.pop()
    with EpisodeWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="differ in length"):
            writer.append(bad)
        writer.append(episode(2))
    assert list(EpisodeStore(tmp_path)) == [episode(2)]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    code = f"from forethought.agents import EpisodeWriter; EpisodeWriter({str(tmp_path)!r})"
    with EpisodeWriter(tmp_path):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "StoreError: another process is writing to" in result.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


RUN = """
import asyncio, sys
from forethought.agents import *
from forethought.envs.pointer.scripts import oracle

async def main(folder):
    spec = EnvSpec(id="forethought.envs:forethought/Pointer-v0", kwargs={"size": 3000})
    tasks = spec.make().tasks
    with EpisodeWriter(folder) as writer:
        requests = (EpisodeRequest(task=t) for t in tasks)
        missing = (r for r in requests if r.id not in writer.finished)
        async for episode in run_rollouts(missing, spec, ScriptedAgent(oracle), concurrency=8):
            writer.append(episode)
            print(episode.id, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def test_killed_at_any_moment_a_run_resumes(tmp_path: Path) -> None:
    announced: list[str] = []
    codes: list[int] = []
    for kill_after in (1, 400, 900, None):
        run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        with run.stdout:
            for number, line in enumerate(run.stdout, 1):
                if line.endswith("\n"):
                    announced.append(line.strip())
                if number == kill_after:
                    os.kill(run.pid, signal.SIGKILL)
        codes.append(run.wait())
    assert codes[0] == -signal.SIGKILL and codes[-1] == 0
    stored = [item.id for item in EpisodeStore(tmp_path)]
    assert len(stored) == len(set(stored)) == 3000  # none lost, none repeated
    assert set(announced) <= set(stored)
    assert len(announced) == len(set(announced))
    assert {row["reward"] for row in EpisodeStore(tmp_path).rows()} == {1.0}
