"""A session: one container, whose process 1 is asked one thing at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..faults import SandboxUnavailable
from ..sandbox import Limits, RunResult, RunStatus, SandboxUsageError
from .answers import MAX_ERROR_BYTES, check_path, failed, run_result
from .channel import Channel, ChannelBroken

MAX_CODE_BYTES = 4 * 2**20
_FILE_SECONDS = 30.0
_LATE_SECONDS = 2.0
"""How much longer than limit and grace the host waits for process 1 before it ends the container itself."""
_GRACE_SECONDS = 1.5
_MAX_LIST_BYTES = 2**22


@dataclass(slots=True, eq=False)
class Container:
    """A container with a ready interpreter in it."""

    identifier: str
    channel: Channel
    expires: float


class Pool(Protocol):
    """Where containers come from and go to."""

    limits: Limits

    async def take(self) -> Container:
        """A container that nothing has run in."""
        ...

    async def discard(self, container: Container) -> None:
        """Destroy a container; done when it is gone."""
        ...

    async def answers(self) -> bool:
        """Whether the engine is still there."""
        ...

    def forget(self, session: DockerSession) -> None:
        """The session is closed."""
        ...


class DockerSession:
    """`forethought.sandboxes.Session` over a container."""

    def __init__(self, pool: Pool, container: Container) -> None:
        self._pool = pool
        self._limits = pool.limits
        self._container: Container | None = container
        self._closed = False
        self._lock = asyncio.Lock()
        self._farewells: set[asyncio.Task[None]] = set()

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """Run Python in the session's interpreter."""
        body = code.encode("utf-8", "surrogatepass")
        if len(body) > MAX_CODE_BYTES:
            self._check_open()
            return failed(
                RunStatus.ERROR, f"code of {len(body)} bytes is longer than the {MAX_CODE_BYTES} that are accepted"
            )
        return await self._run("cell", {}, body, timeout)

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Run a program in the work folder."""
        if isinstance(arguments, str) or not arguments or not arguments[0]:
            raise SandboxUsageError("run_program needs a sequence of arguments, the program's name first")
        variables = dict(environment or {})
        texts = [*arguments, *variables, *variables.values()]
        if any("\0" in text for text in texts) or any("=" in name or not name for name in variables):
            raise SandboxUsageError("arguments and environment must not hold NUL, nor a variable's name '='")
        if sum(map(len, texts)) > 2**17:
            raise SandboxUsageError("arguments and environment are longer than 131072 characters: use a file or stdin")
        data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else bytes(stdin)
        if len(data) > self._limits.memory_bytes // 4:
            raise SandboxUsageError(
                f"stdin of {len(data)} bytes is more than a quarter of the memory limit: use a file"
            )
        return await self._run("program", {"arguments": list(arguments), "environment": variables}, data, timeout)

    async def put_file(self, path: str, data: bytes) -> None:
        """Write a file below the work folder."""
        check_path(path)
        if len(data) > self._limits.disk_bytes:
            raise SandboxUsageError(f"{len(data)} bytes are more than the disk limit of {self._limits.disk_bytes}")
        await self._file(path, "put", {"path": path}, data)

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """Read a regular file below the work folder."""
        check_path(path)
        return await self._file(path, "get", {"path": path, "max_bytes": max_bytes}, max_body=max_bytes)

    async def list_files(self) -> list[str]:
        """Relative paths of the regular files below the work folder, sorted."""
        body = await self._file("", "list", {}, max_body=_MAX_LIST_BYTES)
        return sorted(name.decode("utf-8", "surrogateescape") for name in body.split(b"\0") if name)

    async def reset(self) -> None:
        """Replace the container by one that nothing has run in."""
        async with self._lock:
            self._check_open()
            self._let_go()
            self._container = await self._pool.take()
        await self._all_gone()

    async def close(self) -> None:
        """Destroy the container; done when it is gone."""
        if not self._closed:
            self._closed = True
            self._let_go()
            self._pool.forget(self)
        await self._all_gone()

    async def _run(self, kind: str, fields: dict[str, Any], body: bytes, timeout: float | None) -> RunResult:
        seconds = self._limits.wall_seconds if timeout is None else min(timeout, self._limits.wall_seconds)
        if not seconds > 0:
            raise SandboxUsageError(f"timeout must be more than 0 seconds, not {timeout}")
        async with self._lock:
            container = self._current()
            if container is None:
                return failed(RunStatus.KILLED, "the session has ended: reset it", alive=False)
            started = time.monotonic()
            limits = self._limits
            try:
                header, text = await container.channel.ask(
                    kind,
                    {**fields, "timeout": seconds},
                    body,
                    timeout=seconds + _GRACE_SECONDS + _LATE_SECONDS,
                    max_body=2 * limits.output_bytes + limits.value_bytes + MAX_ERROR_BYTES,
                )
                result = run_result(header, text, seconds, limits.value_bytes)
            except TimeoutError:
                wall = time.monotonic() - started
                result = failed(RunStatus.TIMEOUT, f"ended after {wall:.1f} s", alive=False, wall=wall)
            except ChannelBroken as error:
                if not await self._pool.answers():
                    raise SandboxUnavailable("the Docker engine stopped answering during a run") from error
                wall = time.monotonic() - started
                result = failed(RunStatus.KILLED, f"the interpreter died ({error})", alive=False, wall=wall)
            finally:
                if container.channel.broken is not None:
                    self._let_go()
            if not result.alive:
                self._let_go()
            return result

    async def _file(
        self, path: str, kind: str, fields: dict[str, Any], body: bytes = b"", *, max_body: int = 0
    ) -> bytes:
        async with self._lock:
            container = self._current()
            if container is None:
                raise SandboxUsageError("the session has ended: reset it")
            try:
                header, data = await container.channel.ask(kind, fields, body, timeout=_FILE_SECONDS, max_body=max_body)
            except (ChannelBroken, TimeoutError) as error:
                raise SandboxUnavailable(f"the sandbox broke off while it handled a file ({error})") from error
            finally:
                if container.channel.broken is not None:
                    self._let_go()
        reason = header.get("refused") or header.get("failure")
        if reason is not None:
            raise SandboxUsageError(f"{path!r}: {str(reason)[:500]}")
        return data

    def _current(self) -> Container | None:
        self._check_open()
        if self._container is not None and self._container.channel.broken is not None:
            self._let_go()
        return self._container

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the session is closed: open another one")

    def _let_go(self) -> None:
        """Destroy the container without waiting for it."""
        container, self._container = self._container, None
        if container is not None:
            container.channel.close()
            task = asyncio.get_running_loop().create_task(self._pool.discard(container))
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)

    async def _all_gone(self) -> None:
        if self._farewells:
            await asyncio.gather(*self._farewells)
