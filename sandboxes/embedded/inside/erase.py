"""Remove a folder whatever is in it: closed folders, chains of folders too deep for recursion, odd names."""

from __future__ import annotations

import os
import stat


def erase(path: str) -> None:
    """Remove a folder and everything below; folders are moved up before they are emptied, so depth does not matter."""
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        moved, prefix = 0, os.urandom(8).hex()
        while entries := os.listdir(top):
            for name in entries:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    for child in os.listdir(inner):
                        if stat.S_ISDIR(os.lstat(child, dir_fd=inner).st_mode):
                            os.chmod(child, 0o700, dir_fd=inner)
                            os.rename(child, f"{prefix}{moved}", src_dir_fd=inner, dst_dir_fd=top)
                            moved += 1
                        else:
                            os.unlink(child, dir_fd=inner)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
        os.rmdir(path)
    except OSError:
        return  # Somebody else removes it, or it is not ours: the caller cannot do more.
    finally:
        os.close(top)
