"""The system calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
import struct

from .numbers import numbers

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT = 4, 24, 36, 47
RESOLVE_INSIDE = 0x01 | 0x02 | 0x04 | 0x08
"""Of openat2: no other mount, no magic links, no symbolic links, nothing above the folder."""

_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_NUMBERS = numbers()
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(name: str, *arguments: int | bytes | None) -> int:
    """A system call by name; raises `OSError`."""
    if name not in _NUMBERS:
        raise OSError(38, f"{name}: this processor is not supported")
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *words), name)


def prctl(option: int, *arguments: int) -> int:
    """`prctl(2)`, with unused arguments 0."""
    words = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(word) for word in words)), f"prctl {option}")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    syscall("unshare", flags)


def setns(namespace: int, kind: int) -> None:
    """Enter a namespace by its descriptor."""
    syscall("setns", namespace, kind)


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """`mount(2)`."""
    encoded = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    result = _libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3])
    _checked(result, f"mount {target}")


def protect(path: str) -> None:
    """Make a mount and all below it read-only, without devices and set-user-id."""
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    syscall("mount_setattr", _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, len(attributes))


def pivot_root(new_root: str) -> None:
    """Make a folder the root, and let the old root go."""
    os.chdir(new_root)
    syscall("pivot_root", b".", b".")
    syscall("umount2", b".", MNT_DETACH)
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, and the way back to them."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break
    _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(4), 0, 0, 0)
    syscall("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def pidfd_open(process: int) -> int:
    """A descriptor that stands for a process, never for its successor."""
    return syscall("pidfd_open", process, 0)


def pidfd_kill(descriptor: int, *, group: bool = False) -> None:
    """Kill the process of a descriptor, or the process group that it leads or led (from Linux 6.9 on, else `OSError`).

    Raises `ProcessLookupError` when it is gone.
    """
    syscall("pidfd_send_signal", descriptor, 9, None, 4 if group else 0)


def close_from(first: int) -> None:
    """Close every descriptor from this number on."""
    syscall("close_range", first, 0xFFFFFFFF, 0)


def open_inside(folder: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path that may not lead out of a folder, whatever links lie on it."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_INSIDE)
    return syscall("openat2", folder, os.fsencode(path), how, len(how))


def act_as(user: int) -> int:
    """Make file accesses of this thread those of a user; gives the user before."""
    _libc.setfsuid.argtypes = [ctypes.c_uint]
    return int(_libc.setfsuid(user))


def act_as_group(group: int) -> int:
    """Make file accesses of this thread those of a group; gives the group before."""
    _libc.setfsgid.argtypes = [ctypes.c_uint]
    return int(_libc.setfsgid(group))
