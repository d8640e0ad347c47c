"""The embedded backend: a pool of spare sessions over one warm template.

Tier `namespaces`: every session has its own user, mount, pid, net, ipc and uts namespaces, a read-only root, a work
folder with a quota, seccomp, Landlock where the kernel has it, and limits over its whole tree.

Tier `no-namespaces`, for containers that may not create namespaces: Landlock, seccomp, rlimits, a watcher. Known gaps:

- Whether a path exists on the host can be found out (`stat` is not confined by Landlock).
- The work folder lies on the host's disk: size and number of files are looked at several times a second, not enforced
  at the write; the largest single file is.
- Without a control group, memory and processes are sampled every 20 ms; for an ordinary user the kernel's own limit on
  processes is shared by all sessions.
- Sessions of an ordinary user share its uid; where Landlock cannot scope signals (before Linux 6.12), code in a session
  may send none at all. Root of a rootless container that maps root alone is such a user; root of the machine that may
  not become other users is refused, in either tier.
- No `/proc`, no sockets but pairs, no new process sessions: programs that insist on one of them do not run.

In both tiers: sessions of one template share its address-space layout and its hash seed (so that episodes replay);
without a control group, kernel memory (pipe and socket buffers) is bounded by descriptors and processes only, and
processes that run under the watcher may pass the memory limit for some 20 ms, up to the limits per process. Files in
the work folder are memory: they count against `Limits.memory_bytes` where a control group counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..faults import SandboxUnavailable
from ..sandbox import Limits, SandboxUsageError
from .host import Template
from .inside.numbers import AUDIT_ARCH, MACHINE
from .machine import Machine
from .session import EmbeddedSession
from .watcher import Watched, Watcher

TIERS = ("namespaces", "no-namespaces")
LEAST_MEMORY = 64 << 20
REFILL_SECONDS = 0.002
"""After which a spare is replaced: not in the way of the first cell of whoever took it."""
END_SECONDS = 10.0
"""Until which the control groups of what was killed last must be empty."""
_WANTED_DESCRIPTORS = 65536
_CLOSED = "the sandbox is closed: make a new one"


class EmbeddedSandbox:
    """Sessions as confined forks of a warm interpreter. Usable from any event loop and thread; not across `os.fork`.

    Starting raises the process's soft limit on open descriptors towards its hard limit, since a session takes seven.

    Args:
        limits: Of every session.
        python: Prefix of the environment whose interpreter runs the code; the running one when None.
        preload: Modules to import before the first session, so that no session waits for them.
        spares: Sessions kept ready.
        require: `namespaces` refuses to start in the weaker tier; `no-namespaces` uses that one even where the stronger
            would work, for tests.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        python: str | None = None,
        preload: Sequence[str] = (),
        spares: int = 8,
        require: Literal["any", "namespaces", "no-namespaces"] = "any",
    ) -> None:
        self.limits = limits or Limits()
        if self.limits.memory_bytes < LEAST_MEMORY:
            raise SandboxUsageError(f"memory_bytes must be at least {LEAST_MEMORY}")
        self.watcher = Watcher()
        self._python, self._preload, self._spare_count = python, tuple(preload), spares
        self._tiers = TIERS if require == "any" else (require,)
        self._template: Template | None = None
        self._dead: list[Template] = []
        """Templates that are of no use any more, some of whose sessions may still be there."""
        self._about: dict[str, str] = {"backend": "embedded", "tier": "not started"}
        self._closed = False
        self._starting = threading.RLock()
        """Held by whoever starts or ends templates."""
        self._lock = threading.RLock()
        self._machines: set[Machine] = set()
        """All that are not released, whoever uses them: every one from its birth on."""
        self._spares: deque[Machine] = deque()
        self._buried: list[Machine] = []
        self._sessions: set[EmbeddedSession] = set()

    async def start(self) -> None:
        """See `Sandbox.start`."""
        if self._closed:
            raise SandboxUsageError(_CLOSED)
        if self._template is None:
            await asyncio.to_thread(self._start)

    def _start(self) -> None:
        with self._starting:
            if self._template is not None:
                return
            if not sys.platform.startswith("linux"):
                raise SandboxUnavailable(
                    f"the embedded sandbox needs Linux, this is {sys.platform}: use the Docker or the remote sandbox"
                )
            if MACHINE not in AUDIT_ARCH:
                raise SandboxUnavailable(f"the embedded sandbox knows x86-64 and aarch64, this is {MACHINE}")
            if self._closed:  # Whoever closes it ends what was started until now.
                raise SandboxUsageError(_CLOSED)
            _allow_descriptors()
            template = Template.start(self.limits, self._python, self._preload, self._tiers)
            self._about = _describe(template)
            self._template = template
            self._refill()

    def describe(self) -> Mapping[str, str]:
        """See `Sandbox.describe`."""
        return dict(self._about)

    async def open(self) -> EmbeddedSession:
        """See `Sandbox.open`."""
        session = EmbeddedSession(self, await self.acquire())
        self._sessions.add(session)
        return session

    async def acquire(self) -> Machine:
        """Processes that nothing has touched, ready to run."""
        await self.start()
        self._clear_graves()
        while True:
            try:
                machine = self._spares.popleft()
            except IndexError:
                machine = await self.launch(Template.session)
            with contextlib.ExitStack() as otherwise:
                otherwise.callback(self.bury, machine)
                asyncio.get_running_loop().call_later(REFILL_SECONDS, self._refill)
                ready = await machine.wait(machine.settled, 30.0)
                # What died while it waited is no session: the first run would be blamed for it.
                dead = machine.broken or machine.gone or machine.report is not None or machine.finished()
                if machine.ready and not dead and not machine.failure:
                    otherwise.pop_all()
                    return machine
                failure = machine.failure or machine.stderr.text()[0]
            if failure:
                raise SandboxUnavailable(f"a session could not be made: {failure}")
            if not ready:
                raise SandboxUnavailable("a session was not ready after 30 seconds: the machine is overloaded")
            # A spare that died with its template: what follows starts another.

    async def launch(self, ask: Callable[[Template], Machine]) -> Machine:
        """Have the template fork; starts a new template once when the old one is gone."""
        restarted = False
        for _ in range(5000):
            await self.start()
            template = self._template
            if template is None:
                continue  # Another thread replaces it: the start waits for that.
            try:
                return self._make(template, ask)
            except BlockingIOError:
                await asyncio.sleep(0.002)
            except OSError as error:
                if restarted or template.alive():
                    raise SandboxUnavailable(f"a session could not be made: {error}") from error
                restarted = True
                await asyncio.to_thread(self._restart, template)
        raise SandboxUnavailable("the template of the sandbox does not take requests: the machine is overloaded")

    def _make(self, template: Template, ask: Callable[[Template], Machine]) -> Machine:
        with self._lock:
            if self._closed:
                raise SandboxUsageError(_CLOSED)
            machine = ask(template)
            self._machines.add(machine)
            return machine

    def _restart(self, dead: Template) -> None:
        with self._starting:
            if self._template is not dead:
                return
            self._template = None
            self._dead.append(dead)
            try:
                self._start()
            finally:
                self._dead = [template for template in self._dead if not template.close()]

    def _refill(self) -> None:
        template = self._template
        # Whoever opens the next session meets the cause and reports it.
        with contextlib.suppress(OSError, SandboxUsageError), self._lock:
            while template is not None and len(self._spares) < self._spare_count:
                self._spares.append(self._make(template, Template.session))

    def watch(self, machine: Machine, roots: Callable[[], list[int]], stop: Callable[[str, str], None]) -> Watched:
        """Hold what no kernel mechanism holds for this session."""
        limits, group = self.limits, machine.group
        item = Watched(roots, stop, limits.cpu_seconds)
        if group is not None:
            item.cpu_used = group.cpu_seconds
        else:
            item.memory_bytes, item.processes = limits.memory_bytes, limits.processes
        if machine.folder is not None:
            item.folder, item.disk_bytes, item.inodes = Path(machine.folder), limits.disk_bytes, limits.inodes
        self.watcher.add(item)
        return item

    def forget(self, session: EmbeddedSession) -> None:
        """A session was closed."""
        self._sessions.discard(session)

    def bury(self, machine: Machine) -> None:
        """End a machine, and release what it holds, now or when its last process is gone."""
        machine.kill()
        if machine.finished():
            self._release(machine)
        else:
            with self._lock:
                self._buried.append(machine)

    def _release(self, machine: Machine) -> None:
        machine.release()
        self._machines.discard(machine)

    def _clear_graves(self) -> None:
        with self._lock:
            waiting, self._buried = self._buried, []
        for machine in waiting:
            machine.pump()
            self.bury(machine)

    async def close(self) -> None:
        """See `Sandbox.close`."""
        with self._lock:
            self._closed = True  # From now on no machine is made.
        try:
            for session in list(self._sessions):
                await session.close()
            for machine in list(self._machines):
                machine.pump()
                if machine.handle is not None:
                    machine.kill()
            for machine in list(self._machines):
                await machine.end()
        finally:
            for machine in list(self._machines):
                machine.kill()
                self._release(machine)
            await asyncio.to_thread(self._end_templates)

    def _end_templates(self) -> None:
        until = time.monotonic() + END_SECONDS
        with self._starting:
            template, self._template = self._template, None
            self._dead += [] if template is None else [template]
            while self._dead:
                self._dead = [template for template in self._dead if not template.close()]
                if not self._dead or time.monotonic() > until:
                    return
                time.sleep(0.02)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _describe(template: Template) -> dict[str, str]:
    namespaces, groups = template.namespaces, template.groups.means
    counted = groups or "watcher (20 ms), rlimits per process"
    own = "rlimit per user namespace" if namespaces else "watcher (20 ms)"
    about = {
        "backend": "embedded",
        "tier": template.tier,
        "python": str(template.about["python"]),
        "user": "nobody of the host" if template.about["others"] else "the user of the host",
        "files": "read-only root in a mount namespace" if namespaces else "Landlock",
        "landlock": str(template.about["landlock"] or "none"),
        "seccomp": "allow-list",
        "network": "none: network namespace" if namespaces else "none: seccomp",
        "memory": counted,
        "processes": f"{groups}, {own}" if groups else own,
        "disk": "tmpfs quota" if namespaces else "watcher (0.2 s), rlimit per file",
        "cpu": "watcher (0.2 s), rlimit per process",
    }
    reasons = template.about.get("reasons")
    return about | ({"weaker because": "; ".join(f"{tier}: {why}" for tier, why in reasons.items())} if reasons else {})
