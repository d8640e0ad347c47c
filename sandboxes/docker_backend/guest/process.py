"""Small things about processes: what a child starts with, who descends from whom, what the cgroup counted."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def prctl(option: int, value: int) -> None:
    """Set a process attribute; where the kernel lacks it, things stay as they are."""
    _libc.prctl(option, value, 0, 0, 0)


def become_untrusted(stdin: int, stdout: int, stderr: int, keep: tuple[int, ...] = ()) -> None:
    """In a forked child, before foreign code runs: three streams and nothing else of the supervisor's."""
    for target, source in enumerate([os.dup(descriptor) for descriptor in (stdin, stdout, stderr)]):
        os.dup2(source, target)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, 4096)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The supervisor is not dumpable, so that nobody opens its descriptors; a child must be able to open its own.
    prctl(PR_SET_DUMPABLE, 1)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when memory runs out the kernel takes this process, never the supervisor
    except OSError:
        pass


def descendants(ancestor: int) -> list[int]:
    """All processes below one, zombies not counted."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    queue = [ancestor]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


class Meter:
    """What the container's cgroup (version 1 or 2) has counted; zeros where it cannot be read."""

    def __init__(self) -> None:
        """Keep the files open: a read is then one system call."""
        self._cpu = _open("cpuacct/cpuacct.usage", "cpu.stat")
        self._peak = _open("memory/memory.max_usage_in_bytes", "memory.peak")
        self._killed = _open("memory/memory.oom_control", "memory.events")

    def cpu_seconds(self) -> float:
        """Of all processes since the container started."""
        text = _read(self._cpu)
        if text.strip().isdigit():
            return int(text) / 1e9
        return _field(text, b"usage_usec") / 1e6

    def peak_memory(self) -> int:
        """Highest use of the whole container so far, in bytes."""
        text = _read(self._peak).strip()
        return int(text) if text.isdigit() else 0

    def memory_kills(self) -> int:
        """How many processes the kernel has killed for lack of memory."""
        return _field(_read(self._killed), b"oom_kill")


def _open(*names: str) -> int:
    for name in names:
        try:
            return os.open("/sys/fs/cgroup/" + name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return -1


def _read(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, 4096, 0)
    except OSError:
        return b""


def _field(text: bytes, name: bytes) -> int:
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[0] == name and parts[1].isdigit():
            return int(parts[1])
    return 0
