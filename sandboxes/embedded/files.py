"""Files in and out of a session's work folder, through a descriptor of it and `openat2`: no path leads outside.

The folder is hostile: while the host works in it, code may swap folders for links. The kernel resolves each path in one
go below the folder, refuses links and other mounts, and what was opened is looked at before it is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from ..sandbox import SandboxUsageError
from .inside.syscalls import act_as, act_as_group, open_inside

MAX_LISTED = 10_000
MAX_DEPTH = 64


@contextmanager
def _as_user(user: int | None) -> Iterator[None]:
    # Root of the host is nobody in the session's user namespace; files must belong to the session anyway.
    if user is None:
        yield
        return
    group = act_as_group(user)
    owner = act_as(user)
    try:
        yield
    finally:
        act_as(owner)
        act_as_group(group)


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or "\0" in path or path.startswith("/") or ".." in parts or not parts:
        raise SandboxUsageError(f"{path!r} is not a relative path below the work folder")
    return "/".join(parts)


def _explain(path: str, error: OSError) -> SandboxUsageError:
    reason = {
        errno.ELOOP: "a symbolic link is on the way",
        errno.EXDEV: "it leads out of the work folder",
        errno.ENOSPC: "the disk limit of the session is reached",
        errno.EDQUOT: "the disk limit of the session is reached",
        errno.EFBIG: "the disk limit of the session is reached",
    }.get(error.errno or 0, os.strerror(error.errno or 0))
    return SandboxUsageError(f"{path!r} cannot be used: {reason}")


def put(folder: int, user: int | None, path: str, data: bytes) -> None:
    """Write a file, making folders on the way; raises `SandboxUsageError`."""
    target = _relative(path)
    try:
        with _as_user(user):
            _make_folders(folder, target)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY
            opened = open_inside(folder, target, flags, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise SandboxUsageError(f"{path!r} is no regular file")
                view = memoryview(data)
                while view:
                    view = view[os.write(opened, view) :]
            except OSError:
                os.ftruncate(opened, 0)
                raise
            finally:
                os.close(opened)
    except OSError as error:
        raise _explain(path, error) from None


def _make_folders(folder: int, target: str) -> None:
    *parents, _ = target.split("/")
    here = os.dup(folder)
    try:
        for name in parents:
            try:
                following = open_inside(here, name, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=here)
                following = open_inside(here, name, os.O_PATH | os.O_DIRECTORY)
            os.close(here)
            here = following
    finally:
        os.close(here)


def get(folder: int, user: int | None, path: str, max_bytes: int) -> bytes:
    """Read a regular file; raises `SandboxUsageError`."""
    target = _relative(path)
    try:
        with _as_user(user):
            opened = open_inside(folder, target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                about = os.fstat(opened)
                if not stat.S_ISREG(about.st_mode):
                    raise SandboxUsageError(f"{path!r} is no regular file")
                if about.st_size > max_bytes:
                    raise SandboxUsageError(f"{path!r} has {about.st_size} bytes, more than {max_bytes}")
                parts, left = [], max_bytes + 1
                while left and (part := os.read(opened, min(left, 1 << 20))):
                    parts.append(part)
                    left -= len(part)
            finally:
                os.close(opened)
    except OSError as error:
        raise _explain(path, error) from None
    data = b"".join(parts)
    if len(data) > max_bytes:
        raise SandboxUsageError(f"{path!r} has more than {max_bytes} bytes")
    return data


def listing(folder: int, user: int | None) -> list[str]:
    """Relative paths of the regular files, sorted; what cannot be entered or lies too deep is left out."""
    found: list[str] = []
    with _as_user(user):
        waiting = [("", 0)]
        while waiting and len(found) < MAX_LISTED:
            path, depth = waiting.pop()
            try:
                opened = open_inside(folder, path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                with os.scandir(opened) as entries:
                    for entry in entries:
                        inner = f"{path}/{entry.name}" if path else entry.name
                        if entry.is_file(follow_symlinks=False):
                            found.append(inner)
                        elif entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                            waiting.append((inner, depth + 1))
            except OSError:
                continue
            finally:
                os.close(opened)
    return sorted(found[:MAX_LISTED])
