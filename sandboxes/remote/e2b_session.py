"""A session on one of E2B's machines, through the SDK's `AsyncSandbox`."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..faults import SandboxUnavailable
from ..sandbox import Limits, RunResult, RunStatus, SandboxUsageError
from .services import check_path, check_program, cut

T = TypeVar("T")
HOME = "/home/user"
"""The work folder there: where E2B's interpreter starts."""
MAX_ERROR_BYTES = 32 * 1024
MAX_SOURCE = 8 << 20
_SLACK_SECONDS = 30.0
_MAX_LISTED, _MAX_DEPTH = 10_000, 64
_DEAD_INTERPRETER = ("ContextRestarting", "UnexpectedEndOfExecution", "WebSocketError")
"""What the service inside the machine calls it. Code that names an exception so ends its own session, no more: whatever
happens inside the machine is the code's doing, so that nobody can pass a failure off as the infrastructure's."""


class Machines(Protocol):
    """Where machines come from."""

    limits: Limits

    async def machine(self) -> Any:
        """A new `AsyncSandbox` of the SDK."""
        ...

    def forget(self, session: E2BSession) -> None:
        """The session is closed."""
        ...


class E2BSession:
    """A session of `E2BSandbox`; made by its `open`."""

    def __init__(self, sandbox: Machines, machine: Any) -> None:
        self._sandbox, self._limits, self._machine = sandbox, sandbox.limits, machine
        self._lock = asyncio.Lock()
        self._closed = self._ended = False

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """See `Session.run_cell`. After a time-out the service interrupts the interpreter; its state lives on."""
        source = code.encode("utf-8", "replace")
        if len(source) > MAX_SOURCE:
            return RunResult(status=RunStatus.ERROR, error=f"the code has {len(source)} bytes, more than {MAX_SOURCE}")
        if source != code.encode("utf-8", "surrogatepass"):
            return RunResult(
                status=RunStatus.ERROR, error="SyntaxError: the code is no text: it holds a lone surrogate"
            )
        async with self._lock:
            if (over := self._over()) is not None:
                return over
            seconds, began = self._seconds(timeout), time.monotonic()
            # What has come so far is ours even where the time runs out.
            out: list[str] = []
            err: list[str] = []
            try:
                execution = await self._machine.run_code(
                    code,
                    timeout=seconds,
                    on_stdout=lambda message: out.append(message.line),
                    on_stderr=lambda message: err.append(message.line),
                )
            except Exception as error:
                wall = time.monotonic() - began
                await self._only_late(error, wall, seconds)
                return self._result(RunStatus.TIMEOUT, out, err, wall, error=f"ended: {seconds:g} s ran out")
            wall = time.monotonic() - began
            return self._of_cell(execution, out, err, wall)

    def _of_cell(self, execution: Any, out: list[str], err: list[str], wall: float) -> RunResult:
        failure = execution.error
        if failure is not None and failure.name in _DEAD_INTERPRETER:
            self._ended = True
            return self._result(RunStatus.KILLED, out, err, wall, error=f"the interpreter died: {failure.value}")
        if failure is not None:
            text = failure.traceback or f"{failure.name}: {failure.value}"
            return self._result(RunStatus.ERROR, out, err, wall, error=cut(text, MAX_ERROR_BYTES)[0])
        return self._result(RunStatus.OK, out, err, wall, value=execution.text)

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """See `Session.run_program`. What a program leaves in the background is not ended."""
        variables = dict(environment or {})
        check_program(arguments, variables)
        data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        async with self._lock:
            if (over := self._over()) is not None:
                return over
            seconds, began = self._seconds(timeout), time.monotonic()
            given = f"/tmp/.stdin-{secrets.token_hex(8)}"
            await reached(self._machine.files.write(given, data), "does not take a file")
            out: list[str] = []
            err: list[str] = []
            command = f"exec 0<{given}; rm -f {given}; exec {shlex.join(arguments)}"
            try:
                # The service ends the program; this is for a service that does not.
                async with asyncio.timeout(seconds + _SLACK_SECONDS):
                    done = await self._machine.commands.run(
                        command, envs=variables, cwd=HOME, timeout=seconds, on_stdout=out.append, on_stderr=err.append
                    )
            except Exception as error:
                wall = time.monotonic() - began
                if not hasattr(error, "exit_code"):  # `CommandExitException` is a result of the SDK, too.
                    await self._only_late(error, wall, seconds)
                    return self._result(RunStatus.TIMEOUT, out, err, wall, error=f"ended: {seconds:g} s ran out")
                done = error
            return self._of_program(int(done.exit_code), out, err, time.monotonic() - began)

    def _of_program(self, exit_code: int, out: list[str], err: list[str], wall: float) -> RunResult:
        if exit_code < 0:
            return self._result(RunStatus.KILLED, out, err, wall, error="the program was ended by a signal")
        status = RunStatus.ERROR if exit_code else RunStatus.OK
        return self._result(status, out, err, wall, exit_code=exit_code)

    async def put_file(self, path: str, data: bytes) -> None:
        """See `Session.put_file`; links inside the machine are followed, which leads out of it nowhere."""
        name = check_path(path)
        if len(data) > self._limits.disk_bytes:
            raise SandboxUsageError(f"{path!r} cannot be used: the disk limit of the session is reached")
        async with self._lock:
            self._check_alive()
            await self._use(path, self._machine.files.write(f"{HOME}/{name}", data))

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """See `Session.get_file`."""
        name = check_path(path)
        async with self._lock:
            self._check_alive()
            about = await self._use(path, self._machine.files.get_info(f"{HOME}/{name}"))
            if not _is_regular(about):
                raise SandboxUsageError(f"{path!r} cannot be used: it is no regular file")
            if about.size > max_bytes:
                raise SandboxUsageError(f"{path!r} has {about.size} bytes, more than {max_bytes}")
            data = bytes(await self._use(path, self._machine.files.read(f"{HOME}/{name}", format="bytes")))
            if len(data) > max_bytes:
                raise SandboxUsageError(f"{path!r} has {len(data)} bytes, more than {max_bytes}")
            return data

    async def list_files(self) -> list[str]:
        """See `Session.list_files`."""
        async with self._lock:
            self._check_alive()
            entries = await self._use(HOME, self._machine.files.list(HOME, depth=_MAX_DEPTH))
            paths = [entry.path.removeprefix(f"{HOME}/") for entry in entries if _is_regular(entry)]
            return sorted(paths)[:_MAX_LISTED]

    async def reset(self) -> None:
        """See `Session.reset`: another machine takes the place of this one."""
        async with self._lock:
            self._check_open()
            await self._kill()
            self._machine = await self._sandbox.machine()
            self._ended = False

    async def close(self) -> None:
        """See `Session.close`."""
        if not self._closed:
            self._closed = True
            self._sandbox.forget(self)
            await self._kill()

    async def _kill(self) -> None:
        try:
            await self._machine.kill()
        except Exception:
            return  # The service ends it after its lifetime.

    async def _only_late(self, error: Exception, wall: float, seconds: float) -> None:
        """Raises: SandboxUnavailable: it was not the code that took too long; the machine is gone."""
        late = type(error).__name__ == "TimeoutException" and wall >= 0.9 * seconds
        if late and await reached(self._machine.is_running(), "does not say whether the machine runs"):
            return
        self._ended = True
        raise SandboxUnavailable(f"E2B broke off during a run: {_sentence(error)}") from error

    async def _use(self, path: str, work: Awaitable[T]) -> T:
        """A call about a file: what the machine refuses is the caller's, all else the service's."""
        try:
            return await work
        except Exception as error:
            refusals = ("FileNotFoundException", "InvalidArgumentException", "NotEnoughSpaceException")
            if type(error).__name__ in refusals:
                raise SandboxUsageError(f"{path!r} cannot be used: {_sentence(error)}") from None
            if type(error).__name__ == "SandboxException" and await self._runs():
                raise SandboxUsageError(f"{path!r} cannot be used: {_sentence(error)}") from None
            raise SandboxUnavailable(f"E2B does not reach its machine: {_sentence(error)}") from error

    async def _runs(self) -> bool:
        try:
            return bool(await self._machine.is_running())
        except Exception:
            return False

    def _result(
        self,
        status: RunStatus,
        out: list[str],
        err: list[str],
        wall: float,
        *,
        value: str | None = None,
        error: str | None = None,
        exit_code: int | None = None,
    ) -> RunResult:
        stdout, cut_out = cut("".join(out), self._limits.output_bytes)
        stderr, cut_err = cut("".join(err), self._limits.output_bytes)
        shown, cut_value = (None, False) if value is None else cut(value, self._limits.value_bytes)
        return RunResult(
            status=status,
            stdout=stdout,
            stderr=stderr,
            value=shown,
            error=error,
            exit_code=exit_code,
            truncated=cut_out or cut_err or cut_value,
            wall_seconds=wall,
            alive=not self._ended,
        )

    def _seconds(self, timeout: float | None) -> float:
        # 0 means without end to the SDK.
        most = self._limits.wall_seconds
        return max(0.001, most if timeout is None else min(timeout, most))

    def _over(self) -> RunResult | None:
        self._check_open()
        error = "the session has ended; reset it"
        return RunResult(status=RunStatus.KILLED, error=error, alive=False) if self._ended else None

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the session is closed: open a new one")

    def _check_alive(self) -> None:
        self._check_open()
        if self._ended:
            raise SandboxUsageError("the session has ended; reset it")


def _is_regular(entry: Any) -> bool:
    return entry.symlink_target is None and entry.type is not None and entry.type.value == "file"


async def reached(work: Awaitable[T], what: str) -> T:
    """A call of the SDK, whose every failure is the infrastructure's.

    Raises:
        SandboxUnavailable: it failed; says how, but not with which key.
    """
    try:
        return await work
    except Exception as error:
        raise SandboxUnavailable(f"E2B {what}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".splitlines()[0]
