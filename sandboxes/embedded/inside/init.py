"""The first process of a session: sets the walls up, starts the worker, reaps, and dies with the host.

It is trusted and never runs a cell. In its own pid namespace its death is the death of everything in the session;
without namespaces it and all below are one process group that nobody can leave.
"""

from __future__ import annotations

import array
import contextlib
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from . import landlock, seccomp
from .syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    close_from,
    drop_capabilities,
    mount,
    pidfd_open,
    prctl,
    setns,
    unshare,
)
from .tree import MOUNT_SAFE, map_user
from .users import become
from .worker import Interpreter, run_program

BOX = "/box"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
JOINED = {"user": CLONE_NEWUSER, "mnt": CLONE_NEWNS, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS, "net": CLONE_NEWNET}
ADDRESS_SLACK = 256 << 20
"""Address space beyond the memory limit: with too little, OpenBLAS does not fail, it spins."""


def send_descriptors(channel: socket.socket, tag: bytes, descriptors: list[int]) -> None:
    """A tagged message with open descriptors."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    channel.sendmsg([tag], [rights])


class Birth:
    """One session, or one program run in a session, from the fork of the template to its end."""

    def __init__(self, template: dict[str, Any], request: dict[str, Any], descriptors: dict[str, int]) -> None:
        self.template = template
        self.request = request
        self.descriptors = descriptors
        self.namespaces: bool = template["namespaces"]
        self.life = socket.socket(fileno=descriptors["life"])
        self.program: bool = "arguments" in request
        self.folder: str = BOX if self.namespaces else request["folder"]

    def run(self) -> NoReturn:
        """Runs in a child of the template, which is gone as soon as init exists."""
        try:
            self._enter()
            init = os.fork()
            if init:
                handle = pidfd_open(init)
                send_descriptors(self.life, b"P", [handle])
                os._exit(0)
            self._init()
        except BaseException:
            try:
                self.life.send(b"E" + traceback.format_exc()[-4000:].encode())
            finally:
                os._exit(98)

    def _enter(self) -> None:
        for name, descriptor in self.descriptors.items():
            if name.startswith("group"):
                os.write(descriptor, b"0")
        if not self.namespaces:
            user = self.request.get("user")
            if user is not None:
                become(user)
        elif self.program:
            for name, kind in JOINED.items():
                setns(self.descriptors[name], kind)
            unshare(CLONE_NEWPID | CLONE_NEWNS)
        else:
            prctl(PR_SET_DUMPABLE, 1)
            user, group = os.getuid(), os.getgid()
            unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET)
            map_user(user, group)

    def _init(self) -> NoReturn:
        if self.namespaces:
            if not self.program:
                self._mount_box()
            mount("proc", "/proc", "proc", MOUNT_SAFE)
        else:
            os.setsid()
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.chdir(self.folder)
        os.umask(0o022)
        drop_capabilities()
        seccomp.install(self.template["filter"])
        parent = os.getpid()
        worker = os.fork()
        if worker == 0:
            self._worker(parent)
        life = os.dup(self.life.fileno())
        os.dup2(life, 3)
        close_from(4)
        for standard in (0, 1, 2):
            os.close(standard)
        prctl(PR_SET_DUMPABLE, 0)
        _watch(worker, self.folder)

    def _mount_box(self) -> None:
        size, inodes = self.request["disk_bytes"], self.request["inodes"]
        inside_tmp = [path for path in self.template["read"] if path.startswith("/tmp/")]
        kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in inside_tmp]
        # One file system below all writable folders: one quota.
        mount("box", "/run", "tmpfs", MOUNT_SAFE & ~8, f"size={size},nr_inodes={inodes},mode=755")
        for name, target in (("box", BOX), ("tmp", "/tmp"), ("shm", "/dev/shm")):
            os.mkdir(f"/run/{name}")
            os.chmod(f"/run/{name}", 0o755 if name == "box" else 0o1777)
            mount(f"/run/{name}", target, None, 4096)
        for path, descriptor in kept:
            os.makedirs(path, exist_ok=True)
            mount(f"/proc/self/fd/{descriptor}", path, None, 4096 | 16384)
            os.close(descriptor)

    def _worker(self, parent: int) -> NoReturn:
        try:
            if self.namespaces:
                os.setsid()
            stdin = self.descriptors.get("stdin")
            os.dup2(os.open("/dev/null", os.O_RDONLY) if stdin is None else stdin, 0)
            os.dup2(self.descriptors["out"], 1)
            os.dup2(self.descriptors["err"], 2)
            if not self.program:
                os.dup2(self.descriptors["control"], 3)
            close_from(3 if self.program else 4)
            prctl(PR_SET_DUMPABLE, 1)
            environment = self._environment()
            os.environ.clear()
            os.environ.update(environment)
            self._limit()
            self._restrict()
            if self.program:
                run_program(self.request["arguments"], environment, lambda text: os.write(2, text.encode()))
            self._open_streams()
            sys.path.insert(0, self.folder)
            Interpreter(3, self.request["value_bytes"]).serve()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(99)

    def _environment(self) -> dict[str, str]:
        temporary = "/tmp" if self.namespaces else self.folder
        base = {**self.template["environment"], "HOME": self.folder, "TMPDIR": temporary}
        return {**base, **self.request.get("environment", {})}

    def _limit(self) -> None:
        request = self.request
        memory = request["memory_bytes"] + ADDRESS_SLACK + self.template["address_bytes"]
        values = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: request["open_files"],
            resource.RLIMIT_NPROC: request["processes"] if self.namespaces else self.template["task_limit"],
            resource.RLIMIT_FSIZE: request["disk_bytes"],
            resource.RLIMIT_MEMLOCK: 65536,
            resource.RLIMIT_SIGPENDING: 256,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_STACK: 64 << 20,
            resource.RLIMIT_AS: memory,
            resource.RLIMIT_DATA: max(request["memory_bytes"], ADDRESS_SLACK) + self.template["data_bytes"],
        }
        for kind, value in values.items():
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        seconds = request["cpu_seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    def _restrict(self) -> None:
        write = [BOX, "/tmp", "/dev/shm"] if self.namespaces else [self.folder]
        # The root of a session holds only what it may read.
        read = ["/"] if self.namespaces else self.template["read"]
        landlock.restrict(read, write, DEVICES)

    def _open_streams(self) -> None:
        def text(descriptor: int) -> io.TextIOWrapper:
            raw = io.FileIO(descriptor, "wb", closefd=False)
            line = descriptor == 2
            return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=line)

        sys.stdout, sys.stderr = text(1), text(2)
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)), "utf-8", "replace")
        sys.__stdout__, sys.__stderr__, sys.__stdin__ = sys.stdout, sys.stderr, sys.stdin  # type: ignore[misc]
        sys.argv = [""]


def _watch(worker: int, folder: str) -> NoReturn:
    """Reap, obey the host's three commands, end when the worker or the host does."""
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    life = socket.socket(fileno=3)
    ready = select.poll()
    ready.register(3, select.POLLIN)
    ready.register(wake, select.POLLIN)
    while True:
        _reap(worker, life)
        for descriptor, _ in ready.poll():
            if descriptor == wake:
                os.read(wake, 4096)
                continue
            command = life.recv(16)
            if not command or command == b"k":
                _end()
            elif command == b"i":
                os.kill(worker, signal.SIGINT)
            elif command == b"s":
                life.send(b"S")
            elif command == b"n":
                names = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in JOINED]
                send_descriptors(life, b"N", names)
                for name in names:
                    os.close(name)
            elif command == b"d":
                opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                send_descriptors(life, b"D", [opened])
                os.close(opened)


def _reap(worker: int, life: socket.socket) -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        if process == worker:
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            report = {"status": status, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}
            with contextlib.suppress(OSError):  # The host may be gone.
                life.send(b"X" + json.dumps(report).encode())
            _end()


def _end() -> NoReturn:
    if os.getpid() != 1:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
