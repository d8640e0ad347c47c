"""The HTTP side of the server: who asks, what for, and how the answer is spelled.

A request never runs code twice (`Held.once`), a client that is cut off can ask again, and one that never comes back
leaves nothing behind (`Registry.expire`). The connection is not encrypted: across networks that are not trusted, put a
proxy that speaks TLS before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from ..faults import SandboxUnavailable
from ..sandbox import RunResult, SandboxUsageError, Session
from . import wire
from .openapi import DOCUMENT
from .registry import Held, Refused, Registry

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MIN_TOKEN = 16
_BODY_SECONDS = 60.0
"""For a body to arrive, so that nobody holds a connection open with half a request."""
_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
_PUBLIC = ("/health", "/openapi.json")
_OWNER = web.RequestKey("owner", str)
_log = logging.getLogger(__name__)


class Service:
    """The routes.

    Args:
        registry: The sessions.
        tokens: Any of them opens the door; where there are none, everybody may come in.
        max_body_bytes: Of a request.
    """

    def __init__(self, registry: Registry, *, tokens: Sequence[str], max_body_bytes: int) -> None:
        self._registry = registry
        self._digests = [_digest(token.encode()) for token in tokens]
        self._max_body_bytes = max_body_bytes

    def application(self) -> web.Application:
        """What a server serves."""
        application = web.Application(middlewares=[self._answer], client_max_size=self._max_body_bytes)
        application.router.add_get("/health", self._health)
        application.router.add_get("/openapi.json", self._document)
        application.router.add_post("/v1/prepare", self._prepare)
        application.router.add_put("/v1/sessions/{session}", self._open)
        application.router.add_delete("/v1/sessions/{session}", self._close)
        application.router.add_post("/v1/sessions/{session}/cell", self._cell)
        application.router.add_post("/v1/sessions/{session}/program", self._program)
        application.router.add_post("/v1/sessions/{session}/reset", self._reset)
        application.router.add_put("/v1/sessions/{session}/file", self._put_file)
        application.router.add_get("/v1/sessions/{session}/file", self._get_file, allow_head=False)
        application.router.add_get("/v1/sessions/{session}/files", self._list_files, allow_head=False)
        application.cleanup_ctx.append(self._life)
        return application

    async def _life(self, application: web.Application) -> AsyncIterator[None]:
        expiry = asyncio.get_running_loop().create_task(self._registry.expire())
        yield
        expiry.cancel()
        await self._registry.close_all()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask who it is, and turn every failure into an `Error`."""
        try:
            if request.path not in _PUBLIC:
                request[_OWNER] = self._owner(request)
            return await handler(request)
        except Refused as error:
            return _refuse(error.kind, str(error))
        except wire.WireError as error:
            return _refuse("bad_request", str(error))
        except SandboxUsageError as error:
            return _refuse("usage", str(error))
        except SandboxUnavailable as error:
            return _refuse("unavailable", str(error))
        except web.HTTPRequestEntityTooLarge:
            return _refuse("too_large", f"the body is larger than {self._max_body_bytes} bytes")
        except web.HTTPException as error:
            return _refuse("bad_request", f"{request.method} {request.path[:200]}: {error.reason}", error.status)
        except asyncio.CancelledError:
            if asyncio.current_task() is not None and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            # Not this request but the operation it waited for: the client began another one, or closed the session.
            return _refuse("superseded", "a later operation of the session took the place of this one")
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return _refuse("internal", "the server failed; its log says how")

    def _owner(self, request: web.Request) -> str:
        if not self._digests:
            return ""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        given = _digest(token.strip().encode("utf-8", "surrogateescape"))
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refused("unauthorised", "the server wants a token, and this is none that it knows")
        return given.hex()

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > self._max_body_bytes:
            raise Refused("too_large", f"the body is larger than {self._max_body_bytes} bytes")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await request.read()
        except TimeoutError:
            raise wire.WireError(f"the body did not arrive within {_BODY_SECONDS:g} s") from None

    async def _content(self, request: web.Request, schema: str) -> dict[str, object]:
        # Pages of other sites may not send this type unasked: a browser on this machine is no way in.
        if request.content_type != "application/json":
            raise wire.WireError("the body must be of the type application/json")
        return wire.load(await self._body(request), schema)

    def _held(self, request: web.Request) -> Held:
        return self._registry.get(_identifier(request), request[_OWNER])

    async def _once(self, request: web.Request, work: Callable[[Session], Awaitable[RunResult]]) -> web.Response:
        key = _key(request)
        held = self._held(request)
        with held.attached():
            return _json(wire.dump_result(await held.once(key, work)))

    async def _health(self, request: web.Request) -> web.Response:
        closing = self._registry.closing
        return _json(wire.dump({"status": "closing" if closing else "ok"}), status=503 if closing else 200)

    async def _document(self, request: web.Request) -> web.Response:
        return _json(wire.dump(DOCUMENT))

    async def _prepare(self, request: web.Request) -> web.Response:
        content = await self._content(request, "Open")
        sandbox = await self._registry.prepare(wire.load_limits(content["limits"]))  # type: ignore[arg-type]
        about = {
            "sandbox": dict(sandbox.describe()),
            "limits": wire.as_json(self._registry.ceiling),
            "max_body_bytes": self._max_body_bytes,
            "idle_seconds": self._registry.idle_seconds,
        }
        return _json(wire.dump(about))

    async def _open(self, request: web.Request) -> web.Response:
        content = await self._content(request, "Open")
        limits = wire.load_limits(content["limits"])  # type: ignore[arg-type]
        await self._registry.open(_identifier(request), request[_OWNER], limits)
        return web.Response(status=204)

    async def _close(self, request: web.Request) -> web.Response:
        await self._registry.close(_identifier(request), request[_OWNER])
        return web.Response(status=204)

    async def _cell(self, request: web.Request) -> web.Response:
        self._held(request)
        content = await self._content(request, "Cell")
        code, timeout = content["code"], content.get("timeout")
        return await self._once(request, lambda session: session.run_cell(code, timeout=timeout))  # type: ignore[arg-type]

    async def _program(self, request: web.Request) -> web.Response:
        self._held(request)
        content = await self._content(request, "Program")
        stdin = wire.load_bytes(str(content.get("stdin", "")))
        return await self._once(
            request,
            lambda session: session.run_program(
                content["arguments"],  # type: ignore[arg-type]
                stdin=stdin,
                environment=content.get("environment"),  # type: ignore[arg-type]
                timeout=content.get("timeout"),  # type: ignore[arg-type]
            ),
        )

    async def _reset(self, request: web.Request) -> web.Response:
        key, held = _key(request), self._held(request)
        with held.attached():
            await held.once(key, lambda session: session.reset())
        return web.Response(status=204)

    async def _put_file(self, request: web.Request) -> web.Response:
        key, held, path = _key(request), self._held(request), _query(request, "path")
        with held.attached():
            data = await self._body(request)
            await held.once(key, lambda session: session.put_file(path, data))
        return web.Response(status=204)

    async def _get_file(self, request: web.Request) -> web.Response:
        held, path = self._held(request), _query(request, "path")
        most = _query(request, "max_bytes", str(2**20))
        if not most.isascii() or not most.isdigit():
            raise wire.WireError("max_bytes must be a whole number")
        with held.attached():
            data = await (await held.session()).get_file(path, max_bytes=int(most))
        return web.Response(body=data, content_type="application/octet-stream")

    async def _list_files(self, request: web.Request) -> web.Response:
        held = self._held(request)
        with held.attached():
            files = await (await held.session()).list_files()
        return _json(wire.dump({"files": files}))


def _digest(token: bytes) -> bytes:
    # Digests have one length, and how much of them agrees says nothing about the token.
    return hashlib.sha256(token).digest()


def _identifier(request: web.Request) -> str:
    identifier = request.match_info["session"]
    if not _IDENTIFIER.fullmatch(identifier):
        raise wire.WireError("a session is named by 32 hexadecimal digits")
    return identifier


def _key(request: web.Request) -> int:
    text = request.headers.get(wire.KEY_HEADER, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise wire.WireError(f"the header {wire.KEY_HEADER} must be a whole number")
    return int(text)


def _query(request: web.Request, name: str, default: str | None = None) -> str:
    # Names of files are bytes: what is no UTF-8 travels as Python spells it.
    text = request.rel_url.raw_query_string
    found = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape")).get(name, default)
    if found is None:
        raise wire.WireError(f"the query lacks {name}")
    return found


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _refuse(kind: str, sentence: str, status: int | None = None) -> web.Response:
    body = wire.dump({"kind": kind, "error": sentence})
    response = _json(body, status or wire.STATUS_OF_KIND[kind])
    if kind == "too_large":
        response.force_close()  # Nobody reads the rest of the body.
    return response
