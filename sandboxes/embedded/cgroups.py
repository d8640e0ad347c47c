"""Control groups: the kernel counts memory, processes and CPU time of a whole tree. Version 2 or 1, where writable."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..sandbox import Limits
from .descriptors import Descriptor


@dataclass
class Group:
    """The group of one session: a folder in each hierarchy that is used."""

    folders: dict[str, str]
    unified: bool

    def _number(self, controller: str, name: str, key: str | None = None) -> int:
        # Read after every run: plain system calls are several times faster than files.
        try:
            descriptor = os.open(f"{self.folders[controller]}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except (KeyError, OSError):
            return 0
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        if key is None:
            return int(text)
        return next((int(line.split()[1]) for line in text.decode().splitlines() if line.split()[0] == key), 0)

    def open_members(self, holder: contextlib.ExitStack) -> list[int]:
        """Descriptors through which a process enters the group by writing 0; raises `OSError`."""
        paths = [f"{folder}/cgroup.procs" for folder in set(self.folders.values())]
        opened = (Descriptor(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) for path in paths)
        return [holder.enter_context(descriptor).number for descriptor in opened]

    def kills(self) -> int:
        """How often the kernel killed for memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        return self._number("memory", name, "oom_kill")

    def peak(self) -> int:
        """The most memory so far, 0 where unknown."""
        return self._number("memory", "memory.peak" if self.unified else "memory.max_usage_in_bytes")

    def cpu_seconds(self) -> float | None:
        """CPU time so far of everything that ever ran in it; None where it is not counted."""
        if not self.unified:
            return None
        return self._number("memory", "cpu.stat", "usage_usec") / 1e6

    def remove(self) -> bool:
        """Remove it once its processes are gone; whether that worked at once or within a moment."""
        for folder in set(self.folders.values()):
            for _ in range(100):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.002)
                else:
                    break
            else:
                return False
        return True


@dataclass
class Groups:
    """Makes groups below one folder per hierarchy, named after this process."""

    unified: bool = False
    bases: dict[str, Path] = field(default_factory=dict)
    _count: int = 0

    @property
    def means(self) -> str:
        """For reports; empty when there are none."""
        return "" if not self.bases else f"cgroup v{2 if self.unified else 1}"

    def make(self, limits: Limits) -> Group:
        """A group that holds the limits; raises `OSError`."""
        self._count += 1
        folders = {name: f"{base}/{self._count}" for name, base in self.bases.items()}
        group = Group(folders, self.unified)
        try:
            for folder in set(folders.values()):
                os.mkdir(folder)
            memory, pids = str(limits.memory_bytes), str(limits.processes + 2)
            if self.unified:
                _write(f"{folders['memory']}/memory.max", memory)
                with contextlib.suppress(OSError):  # No swap accounting: then there is nothing to limit.
                    _write(f"{folders['memory']}/memory.swap.max", "0")
            else:
                _write(f"{folders['memory']}/memory.limit_in_bytes", memory)
                with contextlib.suppress(OSError):
                    _write(f"{folders['memory']}/memory.memsw.limit_in_bytes", memory)
            _write(f"{folders['pids']}/pids.max", pids)
        except OSError:
            group.remove()
            raise
        return group


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def probe() -> Groups:
    """What this process may use: version 1 or 2 with both memory and pids, else nothing."""
    try:
        memberships = _memberships()
        mounts = _mounts()
    except OSError:
        return Groups()
    name = f"forethought-{os.getpid()}-{secrets.token_hex(4)}"
    if "memory" in mounts and "pids" in mounts:
        # Not cpuacct: entering a group of it costs more than all else that a session does.
        bases = {kind: _below(mounts[kind], memberships.get(kind, "/")) / name for kind in ("memory", "pids")}
        groups = Groups(False, bases)
    elif "" in mounts:
        parent = _delegated(mounts[""], memberships.get("", "/"))
        if parent is None:
            return Groups()
        groups = Groups(True, dict.fromkeys(("memory", "pids"), parent / name))
    else:
        return Groups()
    return groups if _works(groups) else Groups()


def _works(groups: Groups) -> bool:
    made: list[Path] = []
    try:
        for base in sorted(set(groups.bases.values())):
            base.mkdir()
            made.append(base)
            if groups.unified:
                (base / "cgroup.subtree_control").write_text("+memory +pids")
        groups.make(Limits()).remove()
    except OSError:
        for base in made:
            base.rmdir()
        return False
    return True


def _delegated(mount: Path, membership: str) -> Path | None:
    """The nearest group above this process that hands memory and pids on to its children and may be written."""
    folder = _below(mount, membership)
    for candidate in (folder, *folder.parents):
        if not candidate.is_relative_to(mount):
            return None
        try:
            handed_on = (candidate / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        if {"memory", "pids"} <= set(handed_on) and os.access(candidate / "cgroup.procs", os.W_OK):
            return candidate
    return None


def _below(mount: Path, membership: str) -> Path:
    folder = mount / membership.lstrip("/")
    return folder if folder.is_dir() else mount


def _memberships() -> dict[str, str]:
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _mounts() -> dict[str, Path]:
    """Where the hierarchies are mounted, by controller; the unified one under the empty name."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        point = Path(fields.split()[4])
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            found |= {option: point for option in options.split(",") if option in ("memory", "pids")}
    return found
