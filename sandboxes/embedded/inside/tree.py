"""The read-only file tree that sessions see, built once per template."""

from __future__ import annotations

import os

from .syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    protect,
)

MOUNT_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
SETTINGS = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/mime.types")
DEVICES = ("null", "zero", "full", "random", "urandom")
INSIDE_USER = 1000


def map_user(user: int, group: int) -> None:
    """In a new user namespace: be user 1000 inside, the given one outside, nobody else."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{INSIDE_USER} {user} 1"), ("gid_map", f"1000 {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def build(environments: list[str], hidden: list[str]) -> None:
    """Make a root with the system's programs, the environments and nothing else, and enter it.

    Args:
        environments: Folders to show at their own paths.
        hidden: Folders below them to cover with an empty one.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    paths = [*environments, *SETTINGS, *(f"/dev/{name}" for name in DEVICES)]
    # Opened before the new root covers /tmp, below which some of them may lie.
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths if os.path.exists(path)}
    root = "/tmp"
    mount("root", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=512,mode=755")
    os.umask(0o022)
    for name in ("etc", "proc", "dev", "dev/shm", "box", "tmp", "run"):
        os.mkdir(f"{root}/{name}")
    for path in SYSTEM:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.mkdir(root + path)
            mount(path, root + path, None, MS_BIND | MS_REC)
            protect(root + path)
    for path, descriptor in sources.items():
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(root + path, exist_ok=True)
        elif not os.path.exists(root + path):
            os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/proc/self/fd/{descriptor}", root + path, None, MS_BIND | MS_REC)
        if not path.startswith("/dev/"):
            protect(root + path)
        os.close(descriptor)
    for path in hidden:
        if os.path.isdir(root + path):
            mount("hidden", root + path, "tmpfs", MOUNT_SAFE | MS_RDONLY, "size=4k,nr_inodes=2,mode=755")
    for name, text in (("passwd", "user:x:1000:1000::/box:/bin/sh\n"), ("group", "user:x:1000:\n")):
        with open(f"{root}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    links = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        os.symlink(f"/proc/self/{target}", f"{root}/dev/{name}")
    # A new proc may be mounted in a user namespace only where the whole old one is to be seen.
    mount("/proc", f"{root}/proc", None, MS_BIND | MS_REC)
    pivot_root(root)
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
