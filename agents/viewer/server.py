"""The local web server: loopback only, nothing without the token in its address."""

from __future__ import annotations

import hmac
import importlib.resources
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ..report.escape import printable
from .api import Api
from .lines import read_bytes
from .query import ViewerError
from .runs import RunSet
from .trace import DamagedLine

_PAGE = {
    "": ("index.html", "text/html"),
    "viewer.css": ("viewer.css", "text/css"),
    **{f"{name}.js": (f"{name}.js", "text/javascript") for name in ("main", "dom", "list", "episode", "turn", "bars")},
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CHUNK = 1 << 20
_IDLE_SECONDS = 60


class ViewerServer:
    """Serves runs on 127.0.0.1 until it is closed; its address holds a token that other users cannot guess.

    Args:
        runs: What is shown; the first one is read at once, the others when they are looked at.
        model: A model's folder whose tokenizer is tried first.
        port: Port; 0 is any that is free.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, runs: RunSet, *, model: Path | None = None, port: int = 0) -> None:
        self._runs = runs
        self._token = secrets.token_urlsafe(24)
        api, token = Api(runs, model), self._token

        class Handler(_Handler):
            pass

        Handler.api, Handler.token = api, token
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        Handler.hosts = tuple(f"{host}:{self.port}" for host in ("127.0.0.1", "localhost"))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="viewer", daemon=True)
        self._thread.start()
        runs.runs[0].start()

    @property
    def port(self) -> int:
        """The port."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The address of the page, its token in it."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    def wait(self) -> None:
        """Wait until the server is closed."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._runs.close()


class _Handler(BaseHTTPRequestHandler):
    api: Api
    token: str
    hosts: tuple[str, ...] = ()
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer a request."""
        parts = urlsplit(self.path)
        _, _, rest = parts.path.partition("/")
        token, slash, name = rest.partition("/")
        # A page of another origin that had its name point here would come with that name as the host.
        known = self.headers.get("Host") in self.hosts
        if not known or not slash or not hmac.compare_digest(token.encode(), self.token.encode()):
            self._send(
                HTTPStatus.FORBIDDEN, b"the address of the viewer was printed where it was started", "text/plain"
            )
            return
        parameters = dict(parse_qsl(parts.query))
        try:
            if name in _PAGE:
                file, kind = _PAGE[name]
                self._send(
                    HTTPStatus.OK, importlib.resources.files(__package__).joinpath("page", file).read_bytes(), kind
                )
            elif name == "raw":
                self._send_raw(*self.api.raw_line(parameters))
            elif (route := self.api.routes.get(name.removeprefix("api/"))) and name.startswith("api/"):
                self._send_json(HTTPStatus.OK, route(parameters))
            else:
                self._send(HTTPStatus.NOT_FOUND, b"there is no such page", "text/plain")
        except (ViewerError, DamagedLine) as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": printable(str(error))})
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        except Exception as error:  # whatever a trace did to the viewer, the page says so and goes on
            said = f"the viewer failed at this ({type(error).__name__}: {error}): please report it with the raw line"
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": printable(said)})

    def _send_json(self, status: HTTPStatus, data: object) -> None:
        self._send(status, json.dumps(data, allow_nan=False).encode("ascii"), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._send_head(status, len(body), kind)
        self.wfile.write(body)

    def _send_raw(self, path: Path, offset: int, length: int) -> None:
        """Send a line as it is, as a file to keep: a browser never shows it."""
        self._send_head(
            HTTPStatus.OK,
            length,
            "application/octet-stream",
            {"Content-Disposition": "attachment; filename=episode.jsonl"},
        )
        for begin in range(offset, offset + length, _CHUNK):
            self.wfile.write(read_bytes(path, begin, min(_CHUNK, offset + length - begin)))

    def _send_head(self, status: HTTPStatus, length: int, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(length), **_HEADERS, **(more or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        """What runs here is nobody's business."""
        return "viewer"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: their addresses hold the token."""
