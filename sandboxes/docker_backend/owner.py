"""Whose a container is, so that what a killed run left behind can be told from what is in use."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping

MARK = "forethought.sandbox"
_RUN, _PID, _BORN, _MACHINE, _EXPIRES = (f"forethought.{name}" for name in ("run", "pid", "born", "machine", "expires"))


def owner_labels(run_id: str, lifetime: float) -> dict[str, str]:
    """Labels of a container that this process makes now."""
    return {
        MARK: "1",
        _RUN: run_id,
        _PID: str(os.getpid()),
        _BORN: _born(os.getpid()),
        _MACHINE: _machine(),
        _EXPIRES: str(int(time.time() + lifetime)),
    }


def is_orphan(labels: Mapping[str, str]) -> bool:
    """Whether the process that made the container is gone; of another machine, whether its time is over."""
    if labels.get(_MACHINE) == _machine() and labels.get(_PID, "").isdigit():
        pid = int(labels[_PID])
        return not _runs(pid) or labels.get(_BORN) != _born(pid)
    expires = labels.get(_EXPIRES, "")
    return not expires.isdigit() or int(expires) < time.time()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _born(pid: int) -> str:
    """When a process started, in ticks: a process number alone may have been given to another one since."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """This boot and process namespace: only inside it do process numbers mean anything."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}-{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode()}"
