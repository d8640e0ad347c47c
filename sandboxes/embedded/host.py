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
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..faults import SandboxUnavailable
from ..sandbox import Limits
from . import inside
from .cgroups import Groups, probe
from .inside.erase import erase
from .inside.template import NOBODY
from .inside.tree import SYSTEM
from .machine import Machine

START_SECONDS = 120.0
_BOOT = """
import sys
sys.path[:] = [path for path in sys.path if path]
import importlib.util, json
folder, channel, host, config = sys.argv[1:]
spec = importlib.util.spec_from_file_location("inside", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["inside"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from inside.template import main
main(int(channel), int(host), json.loads(config))
"""
# The first of the ids that systemd keeps for services' own users: nobody logs in with them.
_FIRST_USER, _USERS = 61184, 4000
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}


def environment_of(python: str | None) -> tuple[str, list[str]]:
    """The interpreter and the folders that must be seen for it to run."""
    prefix = Path(sys.prefix if python is None else python)
    candidates = [Path(sys.executable)] if python is None else [prefix / "bin" / name for name in ("python", "python3")]
    executable = next((candidate for candidate in candidates if candidate.exists()), None)
    if executable is None:
        raise SandboxUnavailable(f"there is no {candidates[0]}: give python= the prefix of an environment")
    folders = [prefix.absolute(), prefix.resolve(), executable.resolve().parent.parent]
    if python is None:
        folders.append(Path(sys.base_prefix))
    kept: list[str] = []
    for folder in folders:
        if folder in (Path("/"), Path.home(), Path("/home"), Path("/root"), Path("/tmp")):
            raise SandboxUnavailable(f"the environment {folder} would show more than an environment: use a venv")
        inside_system = any(folder.is_relative_to(path) for path in SYSTEM)
        if not inside_system and not any(folder.is_relative_to(path) for path in kept):
            kept.append(str(folder))
    return str(executable.absolute()), kept


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
        groups = probe()
        folder = None
        if "no-namespaces" in tiers:
            folder = tempfile.mkdtemp(prefix="forethought-")
            os.chmod(folder, 0o711)
        package = Path(__file__).resolve().parents[2]
        config = {
            "tiers": list(tiers),
            "environments": environments,
            "hidden": [str(package)] if package.name == "forethought" else [],
            "preload": list(preload),
            "groups": [str(base) for base in set(groups.bases.values())],
            "folder": folder,
            "environment": {
                "PATH": f"{Path(executable).parent}:/usr/local/bin:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",
                **_QUIET,
            },
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        where = str(Path(inside.__file__).parent)
        arguments = [where, str(theirs.fileno()), str(os.getpid()), json.dumps(config)]
        try:
            process = subprocess.Popen(
                [executable, "-s", "-B", "-c", _BOOT, *arguments],
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", **_QUIET},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            _clean(groups, folder)
            raise SandboxUnavailable(f"{executable} does not start: {error}") from error
        finally:
            theirs.close()
        template = cls(process, ours, "", {}, groups, folder, limits, random.randrange(_USERS))
        ours.settimeout(START_SECONDS)
        try:
            answer = json.loads(ours.recv(1 << 16) or b'{"tier": null, "reasons": {"any": "it ended at once"}}')
        except TimeoutError:
            answer = {"tier": None, "reasons": {"any": f"it was not ready after {START_SECONDS:.0f} seconds"}}
        if answer["tier"] is None:
            template.close()
            reasons = "; ".join(f"{tier}: {reason}" for tier, reason in answer["reasons"].items())
            raise SandboxUnavailable(
                f"the embedded sandbox cannot work here ({reasons}). Allow unprivileged user namespaces, allow the "
                "other tier with require='any', or use the Docker or the remote sandbox"
            )
        template.tier, template.about = answer["tier"], answer
        return template

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
        folder, user, request = None, None, {"value_bytes": self.limits.value_bytes}
        if not self.namespaces:
            assert self.folder is not None
            folder = tempfile.mkdtemp(dir=self.folder)
            if os.getuid() == 0:
                self._next_user = (self._next_user + 1) % _USERS
                user = _FIRST_USER + self._next_user
                os.chown(folder, user, user)
        elif os.getuid() == 0:
            user = NOBODY
        group = self.groups.make(self.limits) if self.groups.bases else None
        control = socket.socketpair()
        return self._ask(request, {"control": control[1].fileno()}, control, group, folder, user, owned=True)

    def program(
        self, session: Machine, arguments: Sequence[str], environment: Mapping[str, str], stdin: int
    ) -> Machine:
        """Ask for a program's processes in a session whose init has just sent its namespaces."""
        request = {"arguments": list(arguments), "environment": dict(environment)}
        names = ("user", "mnt", "ipc", "uts", "net") if self.namespaces else ()
        extra = {"stdin": stdin, **dict(zip(names, session.sent, strict=False))}
        return self._ask(request, extra, None, session.group, session.folder, session.user, owned=False)

    def _ask(
        self,
        request: dict[str, Any],
        extra: dict[str, int],
        control: tuple[socket.socket, socket.socket] | None,
        group: Any,
        folder: str | None,
        user: int | None,
        *,
        owned: bool,
    ) -> Machine:
        limits = self.limits
        life, their_life = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        members = group.open_members() if group is not None else []
        descriptors = {"life": their_life.fileno(), "out": their_out, "err": their_err, **extra}
        descriptors |= {f"group{index}": descriptor for index, descriptor in enumerate(members)}
        request |= {
            "descriptors": list(descriptors),
            "folder": folder,
            "user": None if self.namespaces else user,
            "memory_bytes": limits.memory_bytes,
            "disk_bytes": limits.disk_bytes,
            "inodes": limits.inodes,
            "processes": limits.processes,
            "open_files": limits.open_files,
            "cpu_seconds": max(1, math.ceil(limits.cpu_seconds)),
        }
        machine = Machine(
            life,
            out,
            err,
            control[0] if control else None,
            limits.output_bytes,
            limits.value_bytes,
            self.namespaces,
            group if owned else None,
            folder if owned else None,
            user,
            self.alive,
        )
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors.values()))
        try:
            self.channel.sendmsg([json.dumps(request).encode()], [rights], socket.MSG_DONTWAIT)
        except OSError:
            machine.release()
            raise
        finally:
            their_life.close()
            if control:
                control[1].close()
            for descriptor in (their_out, their_err, *members):
                os.close(descriptor)
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


def _clean(groups: Groups, folder: str | None) -> bool:
    bases = set(groups.bases.values())
    for base in bases:
        with contextlib.suppress(OSError):
            base.rmdir()
    if folder is not None:
        erase(folder)
    return not any(base.exists() for base in bases)
