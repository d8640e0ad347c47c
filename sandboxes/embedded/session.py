"""A session: runs cells and programs on a machine, and says why each ended as the host saw it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..faults import SandboxUnavailable
from ..sandbox import RunResult, RunStatus, SandboxUsageError
from . import files
from .descriptors import Descriptor, close_all
from .machine import Machine
from .output import Kept
from .replies import cell
from .results import Account
from .watcher import Watched

if TYPE_CHECKING:
    from .sandbox import EmbeddedSandbox

T = TypeVar("T")
GRACE_SECONDS = 0.06
"""Between the soft interrupt at the time limit and the kill."""
PATIENCE_SECONDS = 30.0
"""For what trusted processes answer: at once, or on an overloaded machine late."""
FLOOD_BYTES = 64 << 20
"""Of output in one run, read and thrown away; more ends the run."""
MAX_SOURCE = 8 << 20
MAX_ARGUMENTS = 128 << 10
_LARGE = 1 << 18
"""From this size on, files are moved in a thread."""
_ENDED = "the session has ended; reset it"


class EmbeddedSession:
    """A session of the embedded sandbox; made by `EmbeddedSandbox.open`."""

    def __init__(self, sandbox: EmbeddedSandbox, machine: Machine) -> None:
        self._sandbox = sandbox
        self._limits = sandbox.limits
        self._lock = asyncio.Lock()
        self._closed = False
        self._programs: list[Machine] = []
        self._adopt(machine)

    def _adopt(self, machine: Machine) -> None:
        self._machine = machine
        self._number = 0
        self._account = Account(self._limits, machine)
        self._watched: Watched | None = None
        self._ended = False
        self._blamed = False
        """Whether somebody has been told why it ended."""

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """See `Session.run_cell`."""
        async with self._lock:
            self._check_open()
            machine = self._machine
            if self._is_over():
                return await self._innocent(machine, RunResult(status=RunStatus.KILLED, error=_ENDED, alive=False))
            source = code.encode("utf-8", "surrogatepass")
            if len(source) > MAX_SOURCE:
                error = f"the code has {len(source)} bytes, more than {MAX_SOURCE}"
                return RunResult(status=RunStatus.ERROR, error=error)
            self._watch()
            began = time.monotonic()
            machine.stdout, machine.stderr = Kept(self._limits.output_bytes), Kept(self._limits.output_bytes)
            self._number = self._number % 0xFFFFFFFF + 1
            try:
                machine.send(self._number, cell(self._number, source))
                late = not await machine.wait(lambda: self._over(machine), self._seconds(timeout))
                if late and not self._over(machine):
                    await self._interrupt(machine)
            except BaseException:
                self._ended = True
                machine.kill()
                raise
            if machine.broken and machine.report is None and not machine.gone:
                # A worker that dies closes its channel a moment before init reports how.
                await machine.wait(lambda: machine.report is not None or machine.gone, 0.1)
            if machine.reply is None or machine.stopped is not None:
                self._ended = True
                machine.kill()
            self._drain(machine)
            result = self._account.of_cell(late=late, alive=not self._ended, began=began)
            return await self._innocent(machine, result)

    async def _innocent(self, machine: Machine, result: RunResult) -> RunResult:
        """The result, unless the session died with its template: no code in a session can reach that.

        Raises:
            SandboxUnavailable: it did. Asked again, the session has ended like any other.
        """
        if result.status is RunStatus.KILLED and not result.alive and not self._closed and not self._blamed:
            if machine.report is None:
                await asyncio.sleep(0.02)  # Of the two, the session may be seen to end first.
            self._ended = self._blamed = True
            if not machine.template_lives():
                raise SandboxUnavailable(
                    "the warm template of the sandbox died, and the session with it: open a new one"
                )
        return result

    async def _interrupt(self, machine: Machine) -> None:
        machine.synced = False
        machine.tell(b"i")
        if await machine.wait(lambda: self._over(machine), GRACE_SECONDS) and machine.reply is not None:
            # Init acts in order: once it answers, no interrupt is on its way to the next cell.
            machine.tell(b"s")
            if not await machine.wait(lambda: machine.synced or machine.gone, PATIENCE_SECONDS):
                machine.stop("timeout", "it ran into the time limit, and its first process did not answer")

    def _over(self, machine: Machine) -> bool:
        if machine.stdout.total + machine.stderr.total > FLOOD_BYTES:
            machine.stop("output_limit", f"it wrote more than {FLOOD_BYTES} bytes")
        done = machine.reply is not None or machine.report is not None
        return done or machine.broken or machine.gone or machine.stopped is not None

    def _drain(self, machine: Machine) -> None:
        # What the run wrote before it ended fills a pipe at most; what others write meanwhile is not waited for.
        for _ in range(3):
            machine.pump()

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """See `Session.run_program`."""
        words, settings = list(arguments), dict(environment or {})
        if not words or not words[0]:
            raise SandboxUsageError("a program needs a name: arguments[0]")
        if any("\0" in word for word in (*words, *settings, *settings.values())):
            raise SandboxUsageError("arguments and environment of a program cannot hold NUL characters")
        if any("=" in name or not name for name in settings):
            raise SandboxUsageError("names in the environment of a program cannot be empty or hold '='")
        async with self._lock:
            self._check_open()
            machine = self._machine
            if self._is_over():
                return await self._innocent(machine, RunResult(status=RunStatus.KILLED, error=_ENDED, alive=False))
            size = sum(len(word.encode("utf-8", "surrogatepass")) for word in (*words, *settings, *settings.values()))
            if size > MAX_ARGUMENTS:
                error = f"the arguments have {size} bytes, more than {MAX_ARGUMENTS}"
                return RunResult(status=RunStatus.ERROR, exit_code=126, error=error)
            self._watch()
            data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
            began = time.monotonic()
            program = await self._start_program(machine, words, settings, data)
            self._programs = [program]
            with contextlib.ExitStack() as ending:
                ending.callback(self._sandbox.bury, program)
                ending.callback(self._programs.clear)
                self._check_open()
                if not await program.wait(program.settled, PATIENCE_SECONDS) or not program.ready or program.failure:
                    self._check_open()
                    raise SandboxUnavailable(f"a program could not be started: {program.failure or 'no answer'}")
                late = not await program.wait(lambda: self._over(program), self._seconds(timeout))
                program.kill()
                self._drain(program)
                await program.end()
                late = late and program.report is None
                result = self._account.of_program(program, late=late, alive=not self._is_over(), began=began)
                return await self._innocent(machine, result)

    async def _start_program(
        self, machine: Machine, words: list[str], settings: dict[str, str], data: bytes
    ) -> Machine:
        """Its caller buries what it gives."""
        with contextlib.ExitStack() as used:
            joined = await self._ask(machine, b"N") if machine.namespaces else []
            used.callback(close_all, joined)
            stdin = used.enter_context(Descriptor(os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)))
            view = memoryview(data)
            while view:
                view = view[os.write(stdin.number, view) :]
            os.lseek(stdin.number, 0, os.SEEK_SET)
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(stdin.number, fcntl.F_ADD_SEALS, seals)
            numbers = [one.number for one in joined]
            return await self._sandbox.launch(
                lambda template: template.program(machine, words, settings, stdin.number, numbers)
            )

    async def put_file(self, path: str, data: bytes) -> None:
        """See `Session.put_file`."""
        await self._with_folder(partial(self._put, path=path, data=data), large=len(data) > _LARGE)

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """See `Session.get_file`."""
        return await self._with_folder(
            lambda folder, user: files.get(folder, user, path, max_bytes), large=max_bytes > 4 << 20
        )

    async def list_files(self) -> list[str]:
        """See `Session.list_files`."""
        return await self._with_folder(files.listing, large=True)

    def _put(self, folder: int, user: int | None, *, path: str, data: bytes) -> None:
        files.put(folder, user, path, data)

    async def _with_folder(self, work: Callable[[int, int | None], T], *, large: bool) -> T:
        async with self._lock:
            self._check_open()
            machine = self._machine
            if self._is_over():
                raise SandboxUsageError(_ENDED)
            (folder,) = await self._ask(machine, b"D")
            if large:
                return await asyncio.to_thread(_in, folder, work, machine.user)
            return _in(folder, work, machine.user)

    async def _ask(self, machine: Machine, answer: bytes) -> list[Descriptor]:
        """Have init send descriptors, which are the caller's to close."""
        machine.tell(answer.lower())
        await machine.wait(lambda: answer in machine.sent or machine.gone, PATIENCE_SECONDS)
        descriptors = machine.sent.pop(answer, None)
        if descriptors:
            return descriptors
        self._check_open()
        if machine.gone:
            raise SandboxUsageError(_ENDED)
        if descriptors is not None:
            raise SandboxUnavailable("this process may not open more descriptors: raise its limit")
        raise SandboxUnavailable("the first process of the session does not answer")

    async def reset(self) -> None:
        """See `Session.reset`."""
        async with self._lock:
            self._check_open()
            await self._destroy()
            machine = await self._sandbox.acquire()
            if self._closed:  # Meanwhile: nobody would end what it gets.
                self._sandbox.bury(machine)
            self._check_open()
            self._adopt(machine)

    async def close(self) -> None:
        """See `Session.close`."""
        if not self._closed:
            self._closed = True
            for program in self._programs:
                program.kill()
            self._sandbox.forget(self)
            await self._destroy()

    async def _destroy(self) -> None:
        if self._watched is not None:
            self._sandbox.watcher.remove(self._watched)
            self._watched = None
        machine = self._machine
        try:
            await machine.end()
        finally:
            self._sandbox.bury(machine)

    def _is_over(self) -> bool:
        return self._ended or self._machine.gone or self._machine.finished()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the session is closed: open a new one")

    def _seconds(self, timeout: float | None) -> float:
        most = self._limits.wall_seconds
        return most if timeout is None else max(0.0, min(timeout, most))

    def _watch(self) -> None:
        if self._watched is None:
            self._watched = self._sandbox.watch(self._machine, self._roots, self._stop)

    def _roots(self) -> list[int]:
        machines = [self._machine, *self._programs]
        return [machine.process for machine in machines if machine.process > 0 and not machine.gone]

    def _stop(self, kind: str, sentence: str) -> None:
        for machine in (*self._programs, self._machine):
            machine.stop(kind, sentence)


def _in(folder: Descriptor, work: Callable[[int, int | None], T], user: int | None) -> T:
    # Who works there closes it: a caller that is cancelled meanwhile must not, its number may be given again.
    with folder:
        return work(folder.number, user)
