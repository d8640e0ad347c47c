"""The host's side of the template: start it, ask it for processes."""

from __future__ import annotations

import array
import contextlib
import json
import math
import os
import random
import select
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..faults import SandboxUnavailable
from ..sandbox import Limits
from .boot import config_of, environment_of, spawn
from .cgroups import Group, Groups, probe
from .descriptors import pair, pipe
from .inbox import Inbox
from .inside.erase import erase
from .inside.init import JOINED
from .inside.users import FIRST_USER, NOBODY, USERS
from .machine import Machine

START_SECONDS = 120.0


@dataclass
class Template:
    """A running template and what it reported."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    tier: str
    about: dict[str, Any]
    groups: Groups
    folder: str | None
    limits: Limits
    _next_user: int = 0

    @classmethod
    def start(cls, limits: Limits, python: str | None, preload: Sequence[str], tiers: Sequence[str]) -> Template:
        """Blocks until it is warm; raises `SandboxUnavailable`."""
        executable, environments = environment_of(python)
        with contextlib.ExitStack() as undo:
            groups = probe()
            folder = _folder() if "no-namespaces" in tiers else None
            undo.callback(_clean, groups, folder)
            config = config_of(executable, environments, preload, tiers, groups, folder)
            with contextlib.ExitStack() as theirs:
                ours, channel = pair(undo, theirs, socket.SOCK_SEQPACKET)
                process = spawn(executable, channel, config)
            template = cls(process, ours, "", {}, groups, folder, limits, random.randrange(USERS))
            undo.callback(template.close)
            answer = template.hear()
            if answer["tier"] is None:
                reasons = "; ".join(f"{tier}: {reason}" for tier, reason in answer["reasons"].items())
                raise SandboxUnavailable(
                    f"the embedded sandbox cannot work here ({reasons}). Allow unprivileged user namespaces, allow the "
                    "other tier with require='any', or use the Docker or the remote sandbox"
                )
            template.tier, template.about = answer["tier"], answer
            undo.pop_all()
        return template

    def hear(self) -> dict[str, Any]:
        """Its first and only message, once it is warm: its tier, or why it has none."""
        self.channel.settimeout(START_SECONDS)
        why = "it ended at once"
        try:
            if message := self.channel.recv(1 << 16):
                answer: dict[str, Any] = json.loads(message)
                return answer
        except TimeoutError:
            why = f"it was not ready after {START_SECONDS:.0f} seconds"
        except OSError as error:
            why = f"it ended at once: {error}"
        return {"tier": None, "reasons": {"any": why}}

    @property
    def namespaces(self) -> bool:
        """Whether sessions have their own."""
        return self.tier == "namespaces"

    def alive(self) -> bool:
        """Whether it still listens."""
        try:
            poll = select.poll()
            poll.register(self.channel, select.POLLIN)
            # A socket with a time limit waits for it in spite of MSG_DONTWAIT: only what is there is looked at.
            return not poll.poll(0) or bool(self.channel.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def session(self) -> Machine:
        """Ask for a session's processes. Does not wait; raises `OSError`."""
        with contextlib.ExitStack() as held, contextlib.ExitStack() as given:
            folder, user = None, NOBODY if self.about["others"] else None
            if not self.namespaces:
                folder = tempfile.mkdtemp(dir=self.folder)
                held.callback(erase, folder)
                if user is not None:
                    self._next_user = (self._next_user + 1) % USERS
                    user = FIRST_USER + self._next_user
                    os.chown(folder, user, user)
            group = self.groups.make(self.limits) if self.groups.bases else None
            if group is not None:
                held.callback(group.remove)
            control, theirs = pair(held, given, socket.SOCK_STREAM)
            request = {"value_bytes": self.limits.value_bytes}
            session = _Session(group, folder, user)
            return self._ask(request, {"control": theirs.fileno()}, control, session, held, given)

    def program(
        self, machine: Machine, arguments: Sequence[str], environment: Mapping[str, str], stdin: int, joined: list[int]
    ) -> Machine:
        """Ask for a program's processes in the session of a machine. Does not wait; raises `OSError`.

        Args:
            machine: The session's.
            arguments: Of the program, its name first.
            environment: Beyond that of the session.
            stdin: A descriptor.
            joined: Descriptors of the namespaces, as the session's init sends them.
        """
        request = {"arguments": list(arguments), "environment": dict(environment)}
        extra = {"stdin": stdin, **dict(zip(JOINED, joined, strict=False))}
        session = _Session(machine.group, machine.folder, machine.user)
        with contextlib.ExitStack() as held, contextlib.ExitStack() as given:
            return self._ask(request, extra, None, session, held, given)

    def _ask(
        self,
        request: dict[str, Any],
        extra: dict[str, int],
        control: socket.socket | None,
        session: _Session,
        held: contextlib.ExitStack,
        given: contextlib.ExitStack,
    ) -> Machine:
        """Send a request; what is held goes to the machine once it is sent, the caller closes what is given away."""
        limits = self.limits
        life, their_life = pair(held, given, socket.SOCK_SEQPACKET)
        out, their_out = pipe(held, given)
        err, their_err = pipe(held, given)
        descriptors = {"life": their_life.fileno(), "out": their_out, "err": their_err, **extra}
        if session.group is not None:
            members = enumerate(session.group.open_members(given))
            descriptors |= {f"group{index}": descriptor for index, descriptor in members}
        request |= {
            "descriptors": list(descriptors),
            "folder": session.folder,
            "user": None if self.namespaces else session.user,
            "memory_bytes": limits.memory_bytes,
            "disk_bytes": limits.disk_bytes,
            "inodes": limits.inodes,
            "processes": limits.processes,
            "open_files": limits.open_files,
            "cpu_seconds": max(1, math.ceil(limits.cpu_seconds)),
        }
        inbox = Inbox()
        held.callback(inbox.close)
        machine = Machine(
            life,
            out,
            err,
            control,
            inbox,
            limits.output_bytes,
            limits.value_bytes,
            self.namespaces,
            session.group,
            session.folder,
            session.user,
            self.alive,
        )
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors.values()))
        self.channel.sendmsg([json.dumps(request).encode()], [rights], socket.MSG_DONTWAIT)
        machine.own(held.pop_all())
        return machine

    def close(self) -> bool:
        """End it; the supervisor removes what is left and ends too. Blocks.

        Says whether nothing is left: the groups of sessions that outlive it hold its own. It may be asked again.
        """
        self.channel.close()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # The supervisor has done so, unless it was killed itself.
        return _clean(self.groups, self.folder)


@dataclass
class _Session:
    """What a session's processes and programs share."""

    group: Group | None
    folder: str | None
    user: int | None


def _folder() -> str:
    folder = tempfile.mkdtemp(prefix=f"forethought-{os.getpid()}-")
    os.chmod(folder, 0o711)
    return folder


def _clean(groups: Groups, folder: str | None) -> bool:
    bases = set(groups.bases.values())
    for base in bases:
        with contextlib.suppress(OSError):
            base.rmdir()
    if folder is not None:
        erase(folder)
    return not any(base.exists() for base in bases)
