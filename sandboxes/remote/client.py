"""Sandboxes on another machine: the client of `python -m forethought.sandboxes.remote`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from urllib.parse import quote, urlencode

from ..faults import SandboxUnavailable
from ..sandbox import Limits, RunResult, RunStatus, SandboxUsageError
from . import wire
from .connection import Connection, TooLarge

_SLACK_SECONDS = 30.0
"""That an answer may take beyond what the work itself may: the network, and a server with much to do."""


class RemoteSandbox:
    """Sessions on a server of ours. Usable from any event loop; a session from one at a time.

    The code's doings are results, as everywhere. Whatever is between here and there (a server that is gone, was
    restarted, is full for longer than `patience`, or forgot the session because it was idle for too long) is
    `SandboxUnavailable`. No request runs code twice. A client that dies leaves its sessions to the server, which closes
    them after its idle time.

    Args:
        url: Of the server, such as `http://host:8700`; `FORETHOUGHT_SANDBOX_URL` when None.
        token: That the server wants; `FORETHOUGHT_SANDBOX_TOKEN` when None. Whoever can listen on the way can read it
            unless the URL begins with `https`.
        limits: Of every session; the server refuses what is above its own.
        patience: Seconds for which a server that cannot be reached, or is full, is tried again.

    Raises:
        SandboxUsageError: no URL, or something that is none.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        limits: Limits | None = None,
        patience: float = 30.0,
    ) -> None:
        url = url or os.environ.get("FORETHOUGHT_SANDBOX_URL")
        if not url:
            raise SandboxUsageError("the remote sandbox needs the URL of its server: url=, or FORETHOUGHT_SANDBOX_URL")
        self.limits = limits or Limits()
        self.connection = Connection(url, token or os.environ.get("FORETHOUGHT_SANDBOX_TOKEN"), patience)
        self.max_body_bytes = 0
        self._about: dict[str, str] | None = None
        self._sessions: set[RemoteSession] = set()
        self._farewells: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """See `Sandbox.start`: the server gets ready for these limits."""
        self._check_open()
        if self._about is not None:
            return
        body = await self.connection.request("POST", "/v1/prepare", self._opening(), seconds=60 + _SLACK_SECONDS)
        try:
            about = wire.load(body, "About")
        except wire.WireError as error:
            raise SandboxUnavailable(f"{self.connection.url} is no sandbox server of ours: {error}") from None
        self.max_body_bytes = about["max_body_bytes"]
        there = {f"remote {name}": str(value) for name, value in about["sandbox"].items()}
        self._about = {"idle seconds": f"{about['idle_seconds']:g}", **there}

    def describe(self) -> Mapping[str, str]:
        """See `Sandbox.describe`; what begins with `remote` is the server's own backend."""
        return {"backend": "remote", "url": self.connection.url, **(self._about or {})}

    async def open(self) -> RemoteSession:
        """See `Sandbox.open`."""
        await self.start()
        session = RemoteSession(self, secrets.token_hex(16))
        try:
            await self.connection.request("PUT", session.path, self._opening(), seconds=60 + _SLACK_SECONDS)
        except BaseException:
            # It may have been opened, though nobody said so.
            task = asyncio.get_running_loop().create_task(self.let_go(session.path))
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)
            raise
        self._sessions.add(session)
        return session

    async def let_go(self, path: str) -> None:
        """Have a session destroyed; where the server cannot be reached it does that itself after its idle time."""
        try:
            await self.connection.request("DELETE", path, seconds=10.0, once=True)
        except SandboxUnavailable:
            return

    def forget(self, session: RemoteSession) -> None:
        """A session was closed."""
        self._sessions.discard(session)

    async def close(self) -> None:
        """See `Sandbox.close`: of the sessions of this client, not of the server."""
        self._closed = True
        await asyncio.gather(*(session.close() for session in list(self._sessions)), *self._farewells)
        await self.connection.close()

    def _opening(self) -> bytes:
        return wire.dump({"limits": asdict(self.limits)})

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the sandbox is closed: make a new one")


class RemoteSession:
    """A session of `RemoteSandbox`; made by `RemoteSandbox.open`."""

    def __init__(self, sandbox: RemoteSandbox, identifier: str) -> None:
        self.path = f"/v1/sessions/{identifier}"
        self._sandbox, self._limits = sandbox, sandbox.limits
        self._lock = asyncio.Lock()
        self._key = 0
        self._closed = False

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """See `Session.run_cell`; code that the server does not take is a result too."""
        body = wire.dump({"code": code, "timeout": timeout})
        try:
            return await self._run("cell", body, timeout)
        except TooLarge as error:
            return RunResult(status=RunStatus.ERROR, error=f"the code is too long: {error}")

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """See `Session.run_program`."""
        data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        content = {
            "arguments": list(arguments),
            "stdin": wire.dump_bytes(data),
            "environment": dict(environment or {}),
            "timeout": timeout,
        }
        return await self._run("program", wire.dump(content), timeout)

    async def put_file(self, path: str, data: bytes) -> None:
        """See `Session.put_file`."""
        await self._operate("PUT", "file?" + _query(path), data, raw=True)

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """See `Session.get_file`."""
        return await self._look(f"file?{_query(path)}&max_bytes={max_bytes}")

    async def list_files(self) -> list[str]:
        """See `Session.list_files`."""
        body = await self._look("files")
        try:
            return list(wire.load(body, "Files")["files"])
        except wire.WireError as error:
            raise SandboxUnavailable(f"the sandbox server does not list files: {error}") from None

    async def reset(self) -> None:
        """See `Session.reset`."""
        await self._operate("POST", "reset", b"{}", seconds=60.0)

    async def close(self) -> None:
        """See `Session.close`."""
        if not self._closed:
            self._closed = True
            self._sandbox.forget(self)
            await self._sandbox.let_go(self.path)

    async def _run(self, what: str, body: bytes, timeout: float | None) -> RunResult:
        most = self._limits.wall_seconds
        answer = await self._operate("POST", what, body, seconds=most if timeout is None else min(timeout, most))
        try:
            return wire.load_result(answer)
        except wire.WireError as error:
            raise SandboxUnavailable(f"the sandbox server answered with no result: {error}") from None

    async def _operate(self, method: str, what: str, body: bytes, *, seconds: float = 30.0, raw: bool = False) -> bytes:
        """Something that changes the session, and must not happen twice."""
        async with self._lock:
            self._check_open()
            if len(body) > self._sandbox.max_body_bytes:
                most = self._sandbox.max_body_bytes
                raise TooLarge(f"{len(body)} bytes are more than the {most} that the sandbox server takes at once")
            self._key += 1
            return await self._sandbox.connection.request(
                method, f"{self.path}/{what}", body, seconds=seconds + _SLACK_SECONDS, key=self._key, raw=raw
            )

    async def _look(self, what: str) -> bytes:
        async with self._lock:
            self._check_open()
            return await self._sandbox.connection.request("GET", f"{self.path}/{what}", seconds=30.0 + _SLACK_SECONDS)

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the session is closed: open a new one")


def _query(path: str) -> str:
    try:
        return urlencode({"path": path}, quote_via=quote, errors="surrogateescape")
    except UnicodeEncodeError:
        raise SandboxUsageError(f"{path!r} is not the name of a file: it holds a lone surrogate") from None
