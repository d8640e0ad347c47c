"""The parts of the Docker backend that need no engine: the stream, its frames, results, labels, the profile."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forethought.sandboxes.docker_backend as backend
from forethought.sandboxes import Limits, RunStatus, SandboxUnavailable, SandboxUsageError
from forethought.sandboxes.docker_backend.answers import check_path, run_result
from forethought.sandboxes.docker_backend.channel import Channel, ChannelBroken, Demultiplexer
from forethought.sandboxes.docker_backend.engine import Engine
from forethought.sandboxes.docker_backend.guest.capture import Capture
from forethought.sandboxes.docker_backend.guest.frames import LENGTHS, Broken, FrameParser, frame
from forethought.sandboxes.docker_backend.owner import is_orphan, owner_labels
from forethought.sandboxes.docker_backend.session import Container, DockerSession

ANSWER = {"status": "ok", "alive": True, "cut": False, "exit_code": None, "wait": None}
NUMBERS = {"lengths": [2, 0, 1, 0], "wall": 0.1, "cpu": 0.1, "peak": 5}


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), st.lists(st.integers(0, 400)))
def test_the_attach_stream_comes_apart_however_it_arrives(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    raw = b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in messages)
    streams = Demultiplexer()
    out = b"".join(streams.feed(piece) for piece in pieces(raw, cuts))
    assert out == b"".join(data for stream, data in messages if stream == 1)
    assert streams.noise == b"".join(data for stream, data in messages if stream == 2)


@given(st.binary(max_size=200), st.lists(st.integers(0, 300)))
def test_frames_survive_any_cut(body: bytes, cuts: list[int]) -> None:
    parser = FrameParser(200)
    got = [message for piece in pieces(frame({"id": 7}, body), cuts) if (message := parser.feed(piece))]
    assert got == [({"id": 7}, body)]


@given(st.binary(max_size=300))
def test_garbage_breaks_the_channel_and_nothing_else(data: bytes) -> None:
    channel = Channel()
    channel.data_received(bytes([1, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)
    assert channel.broken is not None or not data


def test_frames_that_lie_are_refused() -> None:
    deep = b'{"id":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    for raw in (
        LENGTHS.pack(2**31, 0),
        LENGTHS.pack(2, 201) + b"{}",
        LENGTHS.pack(2, 0) + b"[]",
        LENGTHS.pack(2, 0) + b"{}more",
        LENGTHS.pack(1, 0) + b"\xff",
        LENGTHS.pack(len(deep), 0) + deep,
    ):
        with pytest.raises(Broken):
            FrameParser(200).feed(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"alive": 1},
        {"lengths": [2, 0, 9, 0]},
        {"lengths": [3]},
        {"lengths": None},
        {"exit_code": "0"},
        {"wall": "x"},
        {"peak": None},
        {"wait": True},
    ],
)
def test_answers_are_checked(change: dict[str, Any]) -> None:
    good = {**ANSWER, **NUMBERS}
    result = run_result(good, b"ab1", 1.0, 10)
    assert (result.status, result.stdout, result.value, result.error) == (RunStatus.OK, "ab", "1", None)
    with pytest.raises(ChannelBroken):
        run_result({**good, **change}, b"ab1", 1.0, 10)


@given(st.integers(0, 300), st.binary(max_size=2000))
def test_captured_output_keeps_head_and_tail_within_its_limit(limit: int, data: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    capture = Capture(reader, limit)
    while capture.read():
        pass
    os.close(reader)
    kept = capture.data()
    assert len(kept) <= limit
    assert capture.cut == (len(data) > limit)
    assert kept == data or capture.cut
    if capture.cut and limit >= 96:
        assert kept[:20] == data[:20] and kept[-20:] == data[-20:] and b"bytes cut" in kept


def test_paths() -> None:
    check_path("a/b c/ä.txt")
    for path in ("", "/a", "..", "a/../b", "a/", "./a", "a\0", "\ud800"):
        with pytest.raises(SandboxUsageError):
            check_path(path)


def test_only_containers_without_an_owner_are_orphans() -> None:
    mine = owner_labels("run", 100)
    assert not is_orphan(mine)
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert is_orphan({**mine, "forethought.pid": str(child.pid)})
    assert is_orphan({**mine, "forethought.born": "1"})
    elsewhere = {**mine, "forethought.machine": "elsewhere", "forethought.pid": str(child.pid)}
    assert not is_orphan(elsewhere)
    assert is_orphan({**elsewhere, "forethought.expires": "1"})


def test_the_profile_is_an_allow_list_without_the_risky_calls() -> None:
    profile = json.loads((Path(backend.__file__).parent / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    free = {name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]}
    risky = (
        "mount unshare setns ptrace bpf io_uring_setup memfd_create keyctl userfaultfd perf_event_open shmget mq_open"
    )
    assert not allowed & set(risky.split())
    assert not free & {"clone", "ioctl", "socket", "personality", "prlimit64"}


class FakePool:
    """An engine that answers or does not, and containers that break at the first question."""

    limits = Limits()

    def __init__(self, there: bool) -> None:
        self.there = there
        self.discarded: list[str] = []

    async def take(self) -> Container:
        return Container("fresh", Channel(), 1e9)

    async def discard(self, container: Container) -> None:
        self.discarded.append(container.identifier)

    async def answers(self) -> bool:
        return self.there

    def forget(self, session: DockerSession) -> None:
        """Nothing is kept here."""


async def test_a_broken_container_is_the_codes_doing_a_silent_engine_is_not() -> None:
    for there in (True, False):
        pool = FakePool(there)
        container = await pool.take()
        session = DockerSession(pool, container)
        if there:
            result = await session.run_cell("1")
            assert (result.status, result.alive) == (RunStatus.KILLED, False)
        else:
            with pytest.raises(SandboxUnavailable, match="stopped answering"):
                await session.run_cell("1")
        container.channel.close()
        assert (await session.run_cell("1")).status is RunStatus.KILLED
        await session.close()
        assert pool.discarded == ["fresh"]


def test_no_sdk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(SandboxUnavailable, match=r"forethought\[docker\]"):
        Engine()


def test_no_engine_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("docker")
    with pytest.raises(SandboxUnavailable, match="no Docker engine answers"):
        Engine(f"unix://{tmp_path}/docker.sock")
