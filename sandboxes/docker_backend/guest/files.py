"""Files of the work folder, opened component by component so that no link is ever followed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from .frames import frame, read_exactly, write_all

CHUNK = 2**18
MAX_FILES = 10_000
MAX_LIST_BYTES = 512 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """The caller asked for a file that cannot be had; the text is for people."""


def put(root: str, path: str, length: int, source: int, rest: Callable[[int], None]) -> None:
    """Write the next `length` bytes of `source` to a regular file; `rest(n)` says how many are still unread.

    Raises:
        Refused: it cannot be written there.
    """
    parts = path.split("/")
    folder = _descend(root, parts[:-1], make=True)
    try:
        try:
            target = os.open(
                parts[-1], os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=folder
            )
        except OSError as error:
            raise Refused(_reason(error)) from error
        try:
            if not stat.S_ISREG(os.fstat(target).st_mode):
                raise Refused("it is no regular file")
            os.ftruncate(target, 0)
            while length:
                part = read_exactly(source, min(length, CHUNK))
                length -= len(part)
                rest(length)
                write_all(target, part)
        except OSError as error:
            os.unlink(parts[-1], dir_fd=folder)
            raise Refused(_reason(error)) from error
        finally:
            os.close(target)
    finally:
        os.close(folder)


def get(root: str, path: str, max_bytes: int, identifier: int, sink: int) -> None:
    """Answer with a regular file.

    Raises:
        Refused: there is no such file, or it is larger than `max_bytes`. Nothing has been written to `sink` then.
    """
    parts = path.split("/")
    folder = _descend(root, parts[:-1], make=False)
    try:
        source = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise Refused(_reason(error)) from error
    finally:
        os.close(folder)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is no regular file")
        if status.st_size > max_bytes:
            raise Refused(f"its {status.st_size} bytes are more than max_bytes={max_bytes}")
        left = status.st_size
        write_all(sink, frame({"id": identifier}, body_length=left))
        while left:
            # A file that shrinks while it is read has no right content any more; the frame must still be whole.
            part = os.read(source, min(left, CHUNK)) or bytes(min(left, CHUNK))
            write_all(sink, part)
            left -= len(part)
    finally:
        os.close(source)


def listing(root: str) -> list[str]:
    """Relative paths of regular files, bounded in number and in bytes."""
    found: list[str] = []
    size = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except OSError:
            continue  # unreadable, gone, or deeper than paths can say
        for entry in entries:
            path = os.path.join(folder, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    size += len(path)
                    found.append(path)
            except OSError:
                continue
            if len(found) >= MAX_FILES or size > MAX_LIST_BYTES:
                return sorted(found)
    return sorted(found)


def _descend(root: str, parts: list[str], make: bool) -> int:
    folder = os.open(root, _FOLDER)
    for part in parts:
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
            below = os.open(part, _FOLDER, dir_fd=folder)
        except OSError as error:
            raise Refused(_reason(error)) from error
        finally:
            os.close(folder)
        folder = below
    return folder


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()
