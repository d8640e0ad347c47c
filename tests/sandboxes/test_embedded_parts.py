"""Parts of the embedded sandbox: the filter on both processors, bounded output, frames, erasing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from forethought.sandboxes.embedded.inside.erase import erase
from forethought.sandboxes.embedded.inside.numbers import AUDIT_ARCH, numbers
from forethought.sandboxes.embedded.inside.seccomp import build
from forethought.sandboxes.embedded.inside.worker import REPLY
from forethought.sandboxes.embedded.output import Kept
from forethought.sandboxes.embedded.replies import BrokenFrameError, parse

ALLOW, KILL, EPERM, ENOSYS, NO_FAMILY = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50061


def verdict(program: bytes, number: int, machine: str, *arguments: int, arch: int | None = None) -> int:
    """What the kernel would answer: a classic BPF machine in a few lines."""
    words = [value & 0xFFFFFFFFFFFFFFFF for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=iIQ6Q", number, AUDIT_ARCH[machine] if arch is None else arch, 0, *words)
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_computes_and_nothing_risky(machine: str, namespaces: bool) -> None:
    number, program = numbers(machine), build(namespaces=namespaces, machine=machine)
    assert len(program) // 8 < 400
    for name in ("read", "write", "openat", "mmap", "execve", "futex", "exit_group", "wait4", "getrandom", "openat2"):
        assert verdict(program, number[name], machine) == ALLOW, name
    for name in ("mount", "unshare", "setns", "pivot_root", "umount2", "mount_setattr", "capset"):
        assert verdict(program, number[name], machine) == EPERM, name
    risky = {
        "x86_64": [101, 310, 321, 298, 323, 319, 250, 29, 175, 135],
        "aarch64": [117, 270, 280, 241, 282, 279, 219],
    }
    assert {verdict(program, one, machine) for one in (*risky[machine], 425, 426, 427, 438, 440, 447)} == {EPERM}
    assert verdict(program, number["clone3"], machine) == ENOSYS
    assert verdict(program, 1000, machine) == ENOSYS
    assert verdict(program, number["clone"], machine, 17) == ALLOW
    assert verdict(program, number["clone"], machine, 0x10000000 | 17) == EPERM
    assert verdict(program, number["ioctl"], machine, 0, 0x1_0000_5412) == EPERM
    assert verdict(program, number["ioctl"], machine, 0, 0x5401) == ALLOW
    assert verdict(program, number["socket"], machine, 2) == NO_FAMILY
    assert verdict(program, number["socket"], machine, 1) == (ALLOW if namespaces else NO_FAMILY)
    assert verdict(program, number["setsid"], machine) == (ALLOW if namespaces else EPERM)
    assert verdict(program, number["read"], machine, arch=0x40000003) == KILL
    if machine == "x86_64":
        assert verdict(program, 0x40000000 | number["read"], machine) == KILL


def test_without_scoped_signals_there_are_none() -> None:
    program = build(namespaces=False, signals=False, machine="x86_64")
    assert {verdict(program, numbers("x86_64")[name], "x86_64") for name in ("kill", "tgkill", "tkill")} == {EPERM}


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_output_keeps_head_and_tail_in_bounded_memory(pieces: int) -> None:
    data = bytes(ord("a") + index % 26 for index in range(100_000))
    kept = Kept(1000)
    for start in range(0, len(data), pieces * 100):
        kept.add(data[start : start + pieces * 100])
    text, cut = kept.text()
    assert cut and text.startswith(data[:500].decode()) and text.endswith(data[-500:].decode())
    assert "99000 bytes cut" in text
    short = Kept(1000)
    for _ in range(10):
        short.add(b"x" * 100)
    assert short.text() == ("x" * 1000, False)


def test_odd_frames_are_a_broken_channel() -> None:
    good = bytearray(REPLY.pack(5, 1, 0.5, 1000, 3, 4) + b"42oops")
    reply = parse(good, 5, 100)
    assert reply is not None and (reply.value, reply.error, reply.failed) == ("42", "oops", True)
    assert all(parse(good[:length], 5, 100) is None for length in range(len(good)))
    for frame, expected in [
        (good, 6),
        (good, None),
        (good + b"x", 5),
        (bytearray(REPLY.pack(5, 9, 0.5, 0, 0, 0)), 5),
        (bytearray(REPLY.pack(5, 0, float("nan"), 0, 0, 0)), 5),
        (bytearray(REPLY.pack(5, 0, 0.0, 1 << 60, 0, 0)), 5),
        (bytearray(REPLY.pack(5, 0, 0.0, 0, 1 << 31, 0)), 5),
        (bytearray(b"\xff" * 40), 5),
    ]:
        with pytest.raises(BrokenFrameError):
            parse(frame, expected, 100)


def test_a_deep_and_shut_folder_is_erased(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (top / "shut").mkdir()
    (top / "shut" / "file").touch()
    (top / "shut").chmod(0)
    (top / "link").symlink_to(tmp_path)
    erase(str(top))
    assert not top.exists() and tmp_path.exists()
