"""Landlock: what of the file system a process may touch, without namespaces or privileges."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from .syscalls import prctl, syscall

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SET_NO_NEW_PRIVS = 38
SIGNALS_SCOPED = 6
"""The version from which on signals and abstract sockets cannot leave the sandbox."""


def version() -> int:
    """The kernel's Landlock version, 0 where it has none."""
    try:
        return max(0, syscall("landlock_create_ruleset", None, 0, 1))
    except OSError:
        return 0


def restrict(read: Iterable[str], write: Iterable[str], devices: Iterable[str]) -> None:
    """Allow this process and all it starts only these paths, for good; no TCP, no signals to others where possible."""
    known = version()
    if known < 1:
        return
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(known, 16)) - 1
    network = 3 if known >= 4 else 0
    scoped = 3 if known >= SIGNALS_SCOPED else 0
    attributes = struct.pack("QQQ", handled, network, scoped)[: 8 if known < 4 else 16 if known < 6 else 24]
    rules = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    everything = handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
    for paths, access in ((read, _READ), (write, everything), (devices, _WRITE_FILE | _READ_FILE)):
        for path in paths:
            _allow(rules, path, access & handled)
    prctl(_SET_NO_NEW_PRIVS, 1)
    syscall("landlock_restrict_self", rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # What is not there needs no permission.
    try:
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            access &= _OF_FILES
        syscall("landlock_add_rule", rules, 1, struct.pack("=Qi", access, target), 0)
    finally:
        os.close(target)
