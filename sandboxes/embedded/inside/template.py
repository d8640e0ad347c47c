"""The supervisor and the template. The supervisor stays outside and cleans up; the template is confined and forks.

Started by the host as `main(channel, host, config)` in the interpreter of the environment. The host asks the template
for sessions over one socket; neither runs anything a policy wrote.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

from . import landlock, seccomp
from .erase import erase
from .init import Birth
from .syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    mount,
    pidfd_kill,
    pidfd_open,
    prctl,
    unshare,
)
from .tree import MOUNT_SAFE, SETTINGS, SYSTEM, build, map_user
from .users import FIRST_USER, NOBODY, become, failure, others

MAX_REQUEST = 192 * 1024
_ALL = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET


def main(channel: int, host: int, config: dict[str, Any]) -> NoReturn:
    """Probe the tiers in the given order, report the first that works, supervise its template."""
    control = socket.socket(fileno=channel)
    guardian = pidfd_open(host)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    reasons: dict[str, str] = {}
    for tier in config["tiers"]:
        ready, announce = os.pipe()
        starter = os.fork()
        if starter == 0:
            os.close(ready)
            try:
                _start(tier, control, guardian, announce, config)
            except BaseException as error:
                os.write(announce, json.dumps({"error": f"{error}", "trace": traceback.format_exc()[-3000:]}).encode())
            os._exit(1)
        os.close(announce)
        answer = json.loads(_read_all(ready) or b'{"error": "the template died while it started"}')
        os.close(ready)
        if tier == "namespaces" or "error" in answer:
            os.waitpid(starter, 0)
        if "error" not in answer:
            with contextlib.suppress(OSError):  # A host that is gone already is met again below.
                control.send(json.dumps({**answer, "tier": tier, "reasons": reasons}).encode())
            _supervise(control, guardian, answer["process"], config)
        reasons[tier] = answer["error"]
    _clean(config)
    control.send(json.dumps({"tier": None, "reasons": reasons}).encode())
    os._exit(1)


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts)


def _supervise(control: socket.socket, guardian: int, template: int, config: dict[str, Any]) -> NoReturn:
    control.close()
    handle = pidfd_open(template)
    ready = select.poll()
    ready.register(guardian, select.POLLIN)
    ready.register(handle, select.POLLIN)
    ready.poll()
    with contextlib.suppress(ProcessLookupError):
        pidfd_kill(handle)
    wait = select.poll()
    wait.register(handle, select.POLLIN)
    wait.poll(5000)
    _clean(config)
    os._exit(0)


def _clean(config: dict[str, Any]) -> None:
    deadline = time.monotonic() + 5
    for folder in config["groups"]:
        while os.path.isdir(folder) and time.monotonic() < deadline:
            if not _remove_group(folder):
                time.sleep(0.01)
    if config["folder"]:
        erase(config["folder"])


def _remove_group(folder: str) -> bool:
    try:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                os.rmdir(entry.path)
        os.rmdir(folder)
    except OSError:
        return False
    return True


def _start(tier: str, control: socket.socket, guardian: int, announce: int, config: dict[str, Any]) -> NoReturn:
    supervisor = pidfd_open(os.getppid())
    process = os.getpid()
    becomes_others = others()
    if tier == "namespaces":
        if becomes_others:
            unshare(CLONE_NEWNS)
            build(config["environments"], config["hidden"])
            become(NOBODY)
            prctl(PR_SET_DUMPABLE, 1)
        user, group = os.getuid(), os.getgid()
        unshare(_ALL)
        map_user(user, group)
        if not becomes_others:
            build(config["environments"], config["hidden"])
        socket.sethostname("sandbox")
        told, tell = os.pipe()
        process = os.fork()
        if process:
            os.write(tell, str(process).encode())
            os._exit(0)
        os.close(tell)
        # Only the parent knows the number under which the supervisor sees this process.
        process = int(_read_all(told))
        mount("proc", "/proc", "proc", MOUNT_SAFE)
    elif landlock.version() < 1:
        raise OSError("this kernel has no Landlock, without which files cannot be kept from code")
    template = _warm(tier, config)
    python = ".".join(map(str, sys.version_info[:3]))
    answer = {"landlock": landlock.version(), "python": python, "others": becomes_others}

    of_sessions = FIRST_USER if becomes_others and tier != "namespaces" else None
    for folder in [] if tier == "namespaces" else config["environments"]:
        why = failure(lambda: os.listdir(folder), of_sessions)  # noqa: B023
        if why:
            raise OSError(
                f"{folder} cannot be read by the user of the sessions ({why}): make it readable, or give another "
                "python="
            )
    refused = failure(lambda: seccomp.install(template["filter"]), of_sessions)
    if refused:
        raise OSError(f"this kernel refuses the seccomp filter: {refused}")
    os.write(announce, json.dumps({**answer, "process": process}).encode())
    os.close(announce)
    _serve(control, [guardian, supervisor], template)


def _warm(tier: str, config: dict[str, Any]) -> dict[str, Any]:
    for name in config["preload"]:
        importlib.import_module(name)
    # Every session starts from the same state, so that an episode replays.
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    namespaces = tier == "namespaces"
    signals = namespaces or landlock.version() >= landlock.SIGNALS_SCOPED
    address, data = _sizes()
    present = [path for path in (*SYSTEM, *SETTINGS) if os.path.exists(path)]
    return {
        "namespaces": namespaces,
        "filter": seccomp.build(namespaces=namespaces, signals=signals),
        "read": [*present, *config["environments"]],
        "environment": config["environment"],
        "address_bytes": address,
        "data_bytes": data,
        "task_limit": _tasks_of_user() + 1024,
    }


def _sizes() -> tuple[int, int]:
    with open("/proc/self/statm", encoding="ascii") as file:
        fields = [int(word) * resource.getpagesize() for word in file.read().split()]
    return fields[0], fields[5]


def _tasks_of_user() -> int:
    count, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count


def _serve(control: socket.socket, guardians: list[int], template: dict[str, Any]) -> NoReturn:
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.collect()
    gc.freeze()
    ready = select.poll()
    for descriptor in (control.fileno(), wake, *guardians):
        ready.register(descriptor, select.POLLIN)
    while True:
        _reap()
        for descriptor, _ in ready.poll():
            if descriptor in guardians:
                os._exit(0)
            if descriptor == wake:
                os.read(wake, 4096)
                continue
            space = socket.CMSG_SPACE(16 * 4)
            message, ancillary, _, _ = control.recvmsg(MAX_REQUEST, space, socket.MSG_CMSG_CLOEXEC)
            if not message:
                os._exit(0)
            received = array.array("i")
            for _, _, data in ancillary:
                received.frombytes(data)
            _bear(template, json.loads(message), list(received))


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            # Without namespaces an init that somebody killed leaves its group behind. Not reaped yet, its number is
            # nobody else's; what leads no group has none of its number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)


def _bear(template: dict[str, Any], request: dict[str, Any], received: list[int]) -> None:
    descriptors = dict(zip(request["descriptors"], received, strict=True))
    if os.fork() == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        Birth(template, request, descriptors).run()
    for descriptor in received:
        os.close(descriptor)
