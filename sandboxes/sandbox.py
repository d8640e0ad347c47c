"""The interface of every sandbox: pools hand out sessions, sessions run code.

Two kinds of failure and no third. What the code does (errors, time-outs, floods, crashes) is a `RunResult`, never an
exception. What the sandbox itself cannot do is `SandboxUnavailable`, an infrastructure fault that never costs a policy
its reward. Misuse by the caller (a closed session, a path outside the work folder) is a `SandboxUsageError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class SandboxUsageError(ValueError):
    """The caller asked for something that cannot be: one sentence says what, and what to do."""


class RunStatus(StrEnum):
    """Why a run ended, as the host saw it: the code inside is never believed about this."""

    OK = "ok"
    ERROR = "error"
    """An exception in a cell, or a program's exit status other than 0."""
    TIMEOUT = "timeout"
    """Wall or CPU time ran out."""
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than a host is willing to read on; below that, output is cut and the run goes on."""
    KILLED = "killed"
    """The interpreter died: a crash, `os._exit`, a signal, a broken channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one session may use."""

    wall_seconds: float = 10.0
    """Of one run."""
    cpu_seconds: float = 60.0
    """Of the whole session, all processes together where the platform can tell."""
    memory_bytes: int = 512 * 2**20
    """Of the whole tree; at least 64 MiB."""
    processes: int = 64
    """Processes and threads."""
    disk_bytes: int = 64 * 2**20
    inodes: int = 4096
    output_bytes: int = 64 * 1024
    """Of stdout and of stderr, each: the head and the tail are kept, the middle is cut."""
    value_bytes: int = 64 * 1024
    """Of the text of a cell's value."""
    open_files: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run did. Text is data: decoded with replacement, not made safe for terminals."""

    status: RunStatus
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    """`repr` of a cell's last expression; None when there is none, and for programs."""
    error: str | None = None
    """The traceback of a cell's exception, or what ended the run, for people and policies."""
    exit_code: int | None = None
    """Of a program; None for cells and for runs that were ended."""
    truncated: bool = False
    """Whether output or value was cut."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    """0 where the platform cannot tell."""
    alive: bool = True
    """Whether the session can run more: False after a hard limit ended it; `reset` makes it fresh again."""


class Session(Protocol):
    """One private machine for one episode. Not for two tasks at the same time: runs of one session are serialised."""

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """Run Python in the session's interpreter: names live on in later cells; the value is the last expression's.

        Source that does not decode or compile is a result with status `error`. After a time-out the state survives
        where the code could be interrupted, else `alive` is False.

        Args:
            code: Any text.
            timeout: Wall seconds, at most (and by default) `Limits.wall_seconds`.

        Raises:
            SandboxUsageError: the session is closed.
            SandboxUnavailable: the sandbox, not the code, failed.
        """
        ...

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Run a program in the work folder, to its end, its whole process tree included.

        A program that is not there is a result with status `error` and exit code 127.

        Raises: as `run_cell`.
        """
        ...

    async def put_file(self, path: str, data: bytes) -> None:
        """Write a file below the work folder, making folders on the way.

        Raises:
            SandboxUsageError: the path is absolute, leaves the folder (`..`, a symbolic link), is no regular file, or
                the disk limit does not allow it.
            SandboxUnavailable: as `run_cell`.
        """
        ...

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """Read a regular file below the work folder.

        Raises:
            SandboxUsageError: there is no such regular file inside the folder (a symbolic link, FIFO or device is
                none), or it is larger than `max_bytes`.
            SandboxUnavailable: as `run_cell`.
        """
        ...

    async def list_files(self) -> list[str]:
        """Relative paths of the regular files below the work folder, sorted; at most 10,000. Links are not followed."""
        ...

    async def reset(self) -> None:
        """Make the session pristine: as if it had just been opened. Never reuses anything that code has touched."""
        ...

    async def close(self) -> None:
        """Destroy everything. Idempotent."""
        ...


class Sandbox(Protocol):
    """A backend: opens sessions, keeps spares ready."""

    async def start(self) -> None:
        """Probe what is possible and get ready. `open` does it when it was not done.

        Raises:
            SandboxUnavailable: the backend cannot work here, or not as strictly as was required; it says why.
        """
        ...

    def describe(self) -> Mapping[str, str]:
        """Backend, tier and the means that hold each limit, for reports: what was probed, not what was hoped for."""
        ...

    async def open(self) -> Session:
        """A pristine session.

        Raises:
            SandboxUnavailable: none can be had.
        """
        ...

    async def close(self) -> None:
        """Destroy all sessions and spares. Idempotent."""
        ...
