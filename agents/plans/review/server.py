"""Serves the review page on this machine: loopback only, behind a random token, with no request to anywhere else.

The token and the port are kept in FOLDER/.review.json (readable by the owner only), so that a page that is open while
the server dies goes on with the next one, and saves what it still has.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from ..reviews import ReviewBook
from .handler import ReviewHandler

HOST = "127.0.0.1"


class ReviewServer:
    """A review page for a folder of plans.

    Args:
        folder: The folder.
        wanted: How many reviewers every plan shall have.
        port: The port; 0 is the one of the last time if it is free, else any.

    Raises:
        PlanError: there are no drafts, or another process has the folder open for review.
        OSError: the port is taken.
    """

    def __init__(self, folder: str | Path, *, wanted: int = 2, port: int = 0) -> None:
        self.book = ReviewBook(folder, wanted)
        path = Path(folder) / ".review.json"
        try:
            known = _read_address(path)
            self.token: str = known.get("token") or secrets.token_urlsafe(24)
            self._http = _bind(port or known.get("port", 0), fixed=bool(port))
            _write_address(path, {"token": self.token, "port": self.port})
        except BaseException:
            self.book.close()
            raise
        self._http.book = self.book
        self._http.token = self.token
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._http.server_address[1]
        return port

    @property
    def url(self) -> str:
        """The address of the page, token included."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def close(self) -> None:
        """Stop serving and close the journal."""
        self._http.shutdown()
        self._http.server_close()
        self.book.close()

    def __enter__(self) -> ReviewServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class ReviewHttpServer(ThreadingHTTPServer):
    """The HTTP server with what its handlers need."""

    daemon_threads = True
    book: ReviewBook
    token: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was answered is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _bind(port: int, fixed: bool) -> ReviewHttpServer:
    try:
        return ReviewHttpServer((HOST, port), ReviewHandler)
    except OSError:
        if fixed or not port:
            raise
        return ReviewHttpServer((HOST, 0), ReviewHandler)


def _read_address(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        row = json.loads(path.read_text("utf-8"))
        if isinstance(row.get("token"), str) and len(row["token"]) >= 32 and isinstance(row.get("port"), int):
            known: dict[str, Any] = row
            return known
    return {}


def _write_address(path: Path, row: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(row, file)
    os.replace(partial, path)
