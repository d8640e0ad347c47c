"""A client of SandboxFusion (https://github.com/bytedance/SandboxFusion), over its HTTP interface `POST /run_code`.

Written against the published sources of the service and tested against a server of our own that speaks the same; the
hosted service was not reached.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from ..faults import SandboxUnavailable
from ..sandbox import Limits, RunResult, RunStatus, SandboxUsageError
from . import wire
from .fusion_results import result_of
from .loop_clients import LoopClients, payload
from .services import check_path, check_program

_DRIVER = Path(__file__).with_name("fusion_driver.py").read_text()
_JOB, _RESULT, _STDIN = ".forethought-job.json", ".forethought-result.json", ".forethought-stdin"
_SLACK_SECONDS = 30.0
_START_SECONDS = 1.0
"""That the service's own time limit is longer than ours, for the interpreter to start and the files to come back."""
_FIRST_PAUSE = 0.05


class SandboxFusionSandbox:
    """Sessions on a SandboxFusion service.

    The service keeps nothing between two requests, so a session here is its files: they live on this side, go along
    with every run, and come back as the run left them. There is no live interpreter: a session runs **one** cell; a
    second one is a `SandboxUsageError`, since the names of the first are gone and running it again would run code
    twice. Programs may be run as often as one likes. `reset` gives an empty session, which may run a cell again.

    What the limits are worth: `wall_seconds` and `memory_bytes` are asked of the service, files and output are cut
    here. CPU time, processes and the network are what the service was configured for, and a run that is out of time
    loses the files that it wrote. Empty folders, links and file modes do not come back.

    Args:
        url: Of the service, such as `http://host:8080`.
        limits: Of every session.
        patience: Seconds for which a service that takes no connection, or is full, is tried again. A request that it
            took is never sent again.

    Raises:
        SandboxUsageError: no URL.
    """

    def __init__(self, url: str, *, limits: Limits | None = None, patience: float = 30.0) -> None:
        parsed = URL(url) if "://" in url else URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SandboxUsageError(
                f"expected the URL of a SandboxFusion service, such as http://host:8080, not {url!r}"
            )
        self.limits = limits or Limits()
        self._url, self._patience = url.rstrip("/"), patience
        self._clients = LoopClients({})
        self._started = self._closed = False

    async def start(self) -> None:
        """See `Sandbox.start`: runs an empty program there."""
        if self._closed:
            raise SandboxUsageError("the sandbox is closed: make a new one")
        if not self._started:
            answer = await self.run("pass", {}, 10.0, fetch=[])
            if answer.get("status") != "Success":
                raise SandboxUnavailable(f"SandboxFusion at {self._url} does not run Python: {str(answer)[:300]}")
            self._started = True

    def describe(self) -> Mapping[str, str]:
        """See `Sandbox.describe`."""
        return {
            "backend": "sandbox-fusion",
            "url": self._url,
            "interpreter": "one cell a session",
            "time": "the service's run_timeout",
            "memory": "the service's memory_limit_MB",
            **dict.fromkeys(("cpu", "processes", "network", "files"), "as the service was configured"),
        }

    async def open(self) -> SandboxFusionSession:
        """See `Sandbox.open`; nothing is opened there."""
        await self.start()
        return SandboxFusionSession(self)

    async def close(self) -> None:
        """See `Sandbox.close`."""
        self._closed = True
        await self._clients.close()

    async def run(self, code: str, files: Mapping[str, str], seconds: float, *, fetch: list[str]) -> dict[str, Any]:
        """The service's answer to one request.

        Args:
            code: Python.
            files: Base64 by path.
            seconds: Of the run.
            fetch: Paths of the files that come back.

        Raises:
            SandboxUnavailable: there is no answer, or the service failed.
        """
        request = {
            "code": code,
            "language": "python",
            "run_timeout": seconds,
            "compile_timeout": seconds,
            "memory_limit_MB": self.limits.memory_bytes >> 20,
            "files": dict(files),
            "fetch_files": fetch,
        }
        pause, until = _FIRST_PAUSE, time.monotonic() + self._patience
        while True:
            status, content, failure = await self._post(wire.dump(request), seconds)
            if status == 200:
                break
            # Only what was not taken may be sent again.
            if status not in (0, 429) or time.monotonic() + pause > until:
                raise SandboxUnavailable(f"SandboxFusion at {self._url} {failure}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise SandboxUnavailable(f"{self._url} is no SandboxFusion service: its answer is not a JSON object")
        if answer.get("status") == "SandboxError":
            raise SandboxUnavailable(f"SandboxFusion at {self._url} failed: {str(answer.get('message'))[:300]}")
        return answer

    async def _post(self, body: bytes, seconds: float) -> tuple[int, bytes, str]:
        """Status, body and what to say of it; the status is 0 where no connection was taken."""
        try:
            async with self._clients.here().post(
                f"{self._url}/run_code",
                data=payload(body),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds + _SLACK_SECONDS, sock_connect=10.0),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                return response.status, content, f"answered {response.status}: {content[:200].decode(errors='replace')}"
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return 0, b"", f"cannot be reached ({error})"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return -1, b"", f"broke off during a run ({str(error) or type(error).__name__})"


class SandboxFusionSession:
    """A session of `SandboxFusionSandbox`: its files, which go along with every run."""

    def __init__(self, sandbox: SandboxFusionSandbox) -> None:
        self._sandbox, self._limits = sandbox, sandbox.limits
        self._lock = asyncio.Lock()
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._files: dict[str, bytes] = {}
        self._has_run_a_cell = False
        self._ended: str | None = None

    async def run_cell(self, code: str, *, timeout: float | None = None) -> RunResult:
        """See `Session.run_cell`; only once a session."""
        async with self._lock:
            self._check_open()
            if self._ended:
                return RunResult(status=RunStatus.KILLED, error=self._ended, alive=False)
            if self._has_run_a_cell:
                raise SandboxUsageError(
                    "SandboxFusion keeps no interpreter between two cells: put everything into one cell, reset the "
                    "session, or use a backend with live cells (embedded, docker, remote, e2b)"
                )
            self._has_run_a_cell = True
            return await self._run({"code": code}, {}, timeout)

    async def run_program(
        self,
        arguments: Sequence[str],
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """See `Session.run_program`."""
        variables = dict(environment or {})
        check_program(arguments, variables)
        data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        job = {"arguments": list(arguments), "environment": variables, "stdin_file": _STDIN}
        async with self._lock:
            self._check_open()
            if self._ended:
                return RunResult(status=RunStatus.KILLED, error=self._ended, alive=False)
            return await self._run(job, {_STDIN: data}, timeout)

    async def put_file(self, path: str, data: bytes) -> None:
        """See `Session.put_file`."""
        name = check_path(path)
        async with self._lock:
            self._check_alive()
            if any(other.startswith(name + "/") or name.startswith(other + "/") for other in self._files):
                raise SandboxUsageError(f"{path!r} cannot be used: it is a folder, or a file is on the way")
            others = {other: content for other, content in self._files.items() if other != name}
            if (
                sum(map(len, others.values())) + len(data) > self._limits.disk_bytes
                or len(others) >= self._limits.inodes
            ):
                raise SandboxUsageError(f"{path!r} cannot be used: the disk limit of the session is reached")
            self._files[name] = bytes(data)

    async def get_file(self, path: str, *, max_bytes: int = 2**20) -> bytes:
        """See `Session.get_file`."""
        name = check_path(path)
        async with self._lock:
            self._check_alive()
            data = self._files.get(name)
            if data is None:
                raise SandboxUsageError(f"{path!r} cannot be used: there is no such regular file")
            if len(data) > max_bytes:
                raise SandboxUsageError(f"{path!r} has {len(data)} bytes, more than {max_bytes}")
            return data

    async def list_files(self) -> list[str]:
        """See `Session.list_files`."""
        async with self._lock:
            self._check_alive()
            return sorted(self._files)[:10_000]

    async def reset(self) -> None:
        """See `Session.reset`."""
        async with self._lock:
            self._check_open()
            self._forget()

    async def close(self) -> None:
        """See `Session.close`."""
        self._closed = True
        self._files = {}

    async def _run(self, job: dict[str, Any], more: dict[str, bytes], timeout: float | None) -> RunResult:
        most = self._limits.wall_seconds
        seconds = most if timeout is None else max(0.0, min(timeout, most))
        job |= {"disk_bytes": self._limits.disk_bytes, "inodes": self._limits.inodes}
        # ASCII only: the service writes with whatever encoding its machine has.
        more = {**more, _JOB: json.dumps(job).encode("ascii")}
        files = {name: wire.dump_bytes(data) for name, data in {**self._files, **more}.items()}
        answer = await self._sandbox.run(_DRIVER, files, seconds + _START_SECONDS, fetch=[_RESULT])
        result, left = result_of(answer, self._limits, seconds, fetched=_RESULT)
        if left is not None:
            self._files = left
        if not result.alive:
            self._ended = "the session has ended; reset it"
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUsageError("the session is closed: open a new one")

    def _check_alive(self) -> None:
        self._check_open()
        if self._ended:
            raise SandboxUsageError(self._ended)
