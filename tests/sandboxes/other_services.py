"""Local servers that speak the protocols of SandboxFusion and of E2B, over the embedded sandbox.

Their routes, fields and statuses are those of the published sources: `sandbox/server/sandbox_api.py` of SandboxFusion,
and the client code of E2B's SDK (control plane, envd's files, Connect with JSON, the code interpreter's line stream).
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from forethought.sandboxes import EmbeddedSandbox, RunResult, RunStatus, SandboxUsageError

KEY = "e2b_0123456789"
HOME = "/home/user"


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class FusionService:
    """`POST /run_code` for Python."""

    def __init__(self, sandbox: EmbeddedSandbox) -> None:
        self.sandbox = sandbox
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[], Awaitable[web.StreamResponse]] | None = None
        """Instead of running anything."""

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 27)
        application.router.add_post("/run_code", self._run_code)
        return application

    async def _run_code(self, request: web.Request) -> web.StreamResponse:
        job = await request.json()
        self.requests.append(job)
        if self.answer is not None:
            return await self.answer()
        assert set(job) <= {
            "compile_timeout",
            "run_timeout",
            "memory_limit_MB",
            "code",
            "stdin",
            "language",
            "files",
            "fetch_files",
            "args",
        }
        assert job["language"] == "python"
        session = await self.sandbox.open()
        try:
            for path, content in job["files"].items():
                await session.put_file(path, base64.b64decode(content))
            await session.put_file("tmp_main.py", job["code"].encode())
            result = await session.run_program(["python3", "tmp_main.py"], timeout=job["run_timeout"])
            files = {}
            for path in job["fetch_files"] if result.alive else []:
                try:
                    files[path] = base64.b64encode(await session.get_file(path, max_bytes=1 << 27)).decode()
                except SandboxUsageError:
                    continue
        finally:
            await session.close()
        late = result.status is RunStatus.TIMEOUT
        code = result.exit_code if result.exit_code is not None else -9
        run = {
            "status": "TimeLimitExceeded" if late else "Finished",
            "execution_time": result.wall_seconds,
            "return_code": None if late else code,
            "stdout": result.stdout,
            "stderr": result.stderr,
        }
        status = "Failed" if late or code else "Success"
        return web.json_response(
            {"status": status, "message": "", "compile_result": None, "run_result": run, "files": files}
        )


class E2BService:
    """The control plane, and on the same port what runs in every machine."""

    def __init__(self, sandbox: EmbeddedSandbox) -> None:
        self.sandbox = sandbox
        self.machines: dict[str, Any] = {}
        self.created: list[dict[str, Any]] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 27)
        add = application.router.add_route
        add("POST", "/v2/sandboxes", self._create)
        add("DELETE", "/sandboxes/{id}", self._kill)
        add("GET", "/health", self._health)
        add("POST", "/execute", self._execute)
        add("GET", "/files", self._read)
        add("POST", "/files", self._write)
        add("POST", "/process.Process/Start", self._start)
        add("POST", "/filesystem.Filesystem/Stat", self._stat)
        add("POST", "/filesystem.Filesystem/ListDir", self._list)
        return application

    def _machine(self, request: web.Request) -> Any:
        machine = self.machines.get(request.headers.get("E2b-Sandbox-Id", ""))
        if machine is None:
            raise web.HTTPBadGateway(
                text=json.dumps({"code": 502, "message": "The sandbox was not found"}), content_type="application/json"
            )
        return machine

    async def _create(self, request: web.Request) -> web.Response:
        if request.headers.get("X-API-KEY") != KEY:
            return web.json_response({"code": 401, "message": "Invalid API key"}, status=401)
        self.created.append(await request.json())
        identifier = secrets.token_hex(10)
        self.machines[identifier] = await self.sandbox.open()
        about = {
            "sandboxID": identifier,
            "templateID": "code-interpreter-v1",
            "clientID": "0",
            "envdVersion": "0.5.0",
            "envdAccessToken": "t",
            "domain": None,
        }
        return web.json_response(about, status=201)

    async def _kill(self, request: web.Request) -> web.Response:
        machine = self.machines.pop(request.match_info["id"], None)
        if machine is None:
            return web.json_response({"code": 404, "message": "not found"}, status=404)
        await machine.close()
        return web.Response(status=204)

    async def _health(self, request: web.Request) -> web.Response:
        self._machine(request)
        return web.Response(status=204)

    async def _execute(self, request: web.Request) -> web.StreamResponse:
        machine = self._machine(request)
        code = (await request.json())["code"]
        response = web.StreamResponse()
        await response.prepare(request)

        async def say(**event: Any) -> None:
            await response.write(json.dumps(event).encode() + b"\n")

        stamp = time.time_ns()
        await say(type="number_of_executions", execution_count=1)
        result: RunResult = await machine.run_cell(code)
        if result.stdout:
            await say(type="stdout", text=result.stdout, timestamp=stamp)
        if result.stderr:
            await say(type="stderr", text=result.stderr, timestamp=stamp)
        if not result.alive:
            await say(type="error", name="ContextRestarting", value="Context was restarted", traceback="")
        elif result.error is not None:
            name = result.error.strip().splitlines()[-1].partition(":")[0]
            await say(type="error", name=name, value="", traceback=result.error)
        elif result.value is not None:
            await say(type="result", text=result.value, is_main_result=True)
        await say(type="end_of_execution")
        return response

    async def _read(self, request: web.Request) -> web.Response:
        try:
            data = await self._machine(request).get_file(_inside(request.query["path"]), max_bytes=1 << 27)
        except SandboxUsageError as error:
            return web.json_response({"code": 404, "message": str(error)}, status=404)
        return web.Response(body=data, content_type="application/octet-stream")

    async def _write(self, request: web.Request) -> web.Response:
        machine, path = self._machine(request), request.query["path"]
        part = await (await request.multipart()).next()
        data = bytes(await part.read())  # type: ignore[union-attr]
        try:
            await machine.put_file(_inside(path), data)
        except SandboxUsageError as error:
            return web.json_response({"code": 400, "message": str(error)}, status=400)
        return web.json_response([{"name": path.rpartition("/")[2], "type": "file", "path": path}])

    async def _start(self, request: web.Request) -> web.StreamResponse:
        machine = self._machine(request)
        body = await request.read()
        assert request.content_type == "application/connect+json" and body[0] == 0
        process = json.loads(body[5:])["process"]
        response = web.StreamResponse(headers={"Content-Type": "application/connect+json"})
        await response.prepare(request)

        async def frame(content: dict[str, Any], flags: int = 0) -> None:
            data = json.dumps(content).encode()
            await response.write(struct.pack(">BI", flags, len(data)) + data)

        await frame({"event": {"start": {"pid": 7}}})
        arguments = [word.replace("/tmp/", ".tmp-") for word in (process["cmd"], *process["args"])]
        milliseconds = int(request.headers.get("Connect-Timeout-Ms", 60_000))
        result = await machine.run_program(arguments, environment=process.get("envs"), timeout=milliseconds / 1000)
        for name in ("stdout", "stderr"):
            if text := getattr(result, name):
                await frame({"event": {"data": {name: base64.b64encode(text.encode()).decode()}}})
        if result.status is RunStatus.TIMEOUT:
            await frame({"error": {"code": "deadline_exceeded", "message": "context deadline exceeded"}}, flags=2)
            return response
        code = -1 if result.exit_code is None else result.exit_code
        await frame({"event": {"end": {"exitCode": code, "exited": code >= 0, "status": f"exit status {code}"}}})
        await frame({}, flags=2)
        return response

    async def _stat(self, request: web.Request) -> web.Response:
        path = (await request.json())["path"]
        entries = {entry["path"]: entry for entry in await self._entries(self._machine(request))}
        if path not in entries:
            return web.json_response({"code": "not_found", "message": f"{path} does not exist"}, status=404)
        return web.json_response({"entry": entries[path]})

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"entries": await self._entries(self._machine(request))})

    async def _entries(self, machine: Any) -> list[dict[str, Any]]:
        code = (
            "import json, os\n[(lambda s: dict(name=n, path=os.path.join(d, n)[2:], size=str(s.st_size), "
            "type='FILE_TYPE_FILE' if __import__('stat').S_ISREG(s.st_mode) else 'FILE_TYPE_DIRECTORY' "
            "if __import__('stat').S_ISDIR(s.st_mode) else 'FILE_TYPE_UNSPECIFIED'))(os.lstat(os.path.join(d, n))) "
            "for d, ds, fs in os.walk('.') for n in ds + fs]"
        )
        result = await machine.run_program(["python3", "-c", f"{code.replace('[(', 'print(json.dumps([(', 1)}))"])
        entries = json.loads(result.stdout)
        return [
            {**entry, "path": f"{HOME}/{entry['path']}"} for entry in entries if not entry["name"].startswith(".tmp")
        ]


def _inside(path: str) -> str:
    return path.removeprefix(f"{HOME}/").replace("/tmp/", ".tmp-")


async def hang() -> web.StreamResponse:
    """An answer that never comes."""
    await asyncio.sleep(3600)
    raise AssertionError
