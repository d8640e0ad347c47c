"""Requests of the review page.

GET  /TOKEN/                 the page; page.css, steps.js, ... beside it
GET  /TOKEN/api/next         {"plan": id or null}                   reviewer, after
GET  /TOKEN/api/plan         a plan as a reviewer has it            reviewer, plan
GET  /TOKEN/api/plans        some of the plans                      reviewer, words, state, start
GET  /TOKEN/api/agreement    how far the reviewers agree
POST /TOKEN/api/save         saves a plan; answers when it is on the disk
"""

from __future__ import annotations

import hmac
import importlib.resources
import json
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

from ...report.escape import printable
from ..drafts import PlanDraft
from ..errors import PlanError
from ..reviews import ConflictError, InvalidReviewError, Review, ReviewBook

if TYPE_CHECKING:
    from .server import ReviewHttpServer

_FILES = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "steps.js": ("steps.js", "text/javascript"),
    "saving.js": ("saving.js", "text/javascript"),
    "dialogs.js": ("dialogs.js", "text/javascript"),
    "page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_LARGEST = 2 << 20
"""Bytes of a request: a hundred steps of ten thousand characters are less."""


class RequestError(Exception):
    """A request that cannot be answered: the HTTP status, and what is wrong in one sentence."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **more}


class ReviewHandler(BaseHTTPRequestHandler):
    """Answers one request of the page."""

    protocol_version = "HTTP/1.1"
    server_version = "forethought"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    timeout = 120

    @property
    def _book(self) -> ReviewBook:
        return cast("ReviewHttpServer", self.server).book

    def do_GET(self) -> None:
        """The page and what it asks for."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Saving."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what reviewers do is in the journal."""

    def _answer(self, respond: Any) -> None:
        try:
            body, kind = respond(self._route())
            status = 200
        except RequestError as error:
            body, kind, status = error.body, "application/json", error.status
        except PlanError as error:
            body, kind, status = {"error": str(error)}, "application/json", 404
        except OSError as error:
            reason = f"nothing was saved: {error.strerror or error}"
            body, kind, status = {"error": reason}, "application/json", 507
        data = body if isinstance(body, bytes) else json.dumps(body).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if status >= 400:
            self.send_header("Connection", "close")  # what follows in a refused request is not read
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _route(self) -> str:
        """The path behind the token; a page of another site knows neither the token nor our name."""
        host = self.headers.get("Host", "")
        port = cast("ReviewHttpServer", self.server).server_port
        if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            raise RequestError(403, "this server answers for 127.0.0.1 only")
        token, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), cast("ReviewHttpServer", self.server).token.encode()):
            raise RequestError(404, "there is nothing here: use the address that the command printed")
        return rest

    def _get(self, path: str) -> tuple[Any, str]:
        if path in _FILES:
            name, kind = _FILES[path]
            return importlib.resources.files(__package__).joinpath("page", name).read_bytes(), kind
        fields = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        book = self._book
        if path == "api/next":
            reviewer = _reviewer(fields)
            plan = book.next_plan(reviewer, fields.get("after"))
            return {"plan": plan, "progress": book.progress(reviewer)}, "application/json"
        if path == "api/plan":
            reviewer = _reviewer(fields)
            draft, review = book.open(fields.get("plan", ""), reviewer)
            place = book.position(draft.id)
            return {
                **_plan(draft, review),
                "number": place + 1,
                "previous": book.drafts[place - 1].id if place else None,
                "following": book.drafts[place + 1].id if place + 1 < len(book.drafts) else None,
                "progress": book.progress(reviewer),
            }, "application/json"
        if path == "api/plans":
            return self._find(fields), "application/json"
        if path == "api/agreement":
            return {**asdict(book.agreement()), "problems": book.problems}, "application/json"
        raise RequestError(404, "there is no such page")

    def _find(self, fields: dict[str, str]) -> dict[str, Any]:
        start = fields.get("start", "0")
        if not start.isdecimal() or len(start) > 9:
            raise RequestError(400, f"start: expected a number, found {start[:60]!r}")
        rows, total = self._book.find(
            _reviewer(fields), fields.get("words", ""), fields.get("state", ""), start=int(start)
        )
        return {
            "total": total,
            "plans": [
                {
                    "plan": draft.id,
                    "number": self._book.position(draft.id) + 1,
                    "prompt": printable(draft.task["prompt"][:200]),
                    "steps": len(draft.steps),
                    "reviewers": reviewers,
                    "decision": decision,
                }
                for draft, reviewers, decision in rows
            ],
        }

    def _post(self, path: str) -> tuple[Any, str]:
        if path != "api/save":
            raise RequestError(404, "there is no such page")
        row = self._read_body()
        missing = [
            name for name in ("plan", "reviewer", "revision", "decision", "steps", "comment", "tab") if name not in row
        ]
        if missing:
            raise RequestError(400, f"expected the field {missing[0]!r} in what is to be saved")
        if not isinstance(row["plan"], str) or type(row["revision"]) is not int:
            raise RequestError(400, "expected the id of a plan and the number of a revision")
        try:
            review = self._book.save(
                row["plan"], _reviewer(row), row["revision"], row["decision"], row["steps"], row["comment"], row["tab"]
            )
        except ConflictError as error:
            raise RequestError(409, str(error), current=asdict(error.current)) from None
        except InvalidReviewError as error:
            raise RequestError(422, str(error), problems=error.problems) from None
        return {"revision": review.revision, "progress": self._book.progress(review.reviewer)}, "application/json"

    def _read_body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not length.isdecimal():
            raise RequestError(415, "expected JSON with a Content-Length")
        if int(length) > _LARGEST:
            raise RequestError(413, f"expected at most {_LARGEST} bytes, found {length}")
        data = self.rfile.read(int(length))
        try:
            row = json.loads(data)
        except (ValueError, RecursionError):
            row = None
        if len(data) < int(length) or not isinstance(row, dict):
            raise RequestError(400, "expected a JSON object")
        return row


def _plan(draft: PlanDraft, review: Review | None) -> dict[str, Any]:
    """A plan for the page. What is only shown comes printable; what can be edited comes as it is."""
    provenance, task = draft.provenance, draft.task
    return {
        "plan": draft.id,
        "prompt": printable(next((m["content"] for m in reversed(draft.messages)), "")),
        "instructions": printable("\n\n".join(m["content"] for m in draft.messages if m["role"] == "system")),
        "answer": printable(task.get("answer") or ""),
        "facts": [printable(fact) for fact in _facts(task)],
        "source": {
            "kind": str(provenance.kind),
            "source": printable(provenance.source),
            "author": printable(provenance.author),
            "made": provenance.made,
            "original": printable(provenance.original),
            "notes": [printable(note) for note in provenance.notes],
        },
        "draft": draft.steps,
        "revision": review.revision if review else 0,
        "decision": str(review.decision) if review else "open",
        "steps": review.steps if review else draft.steps,
        "comment": review.comment if review else "",
    }


def _facts(task: dict[str, Any]) -> list[str]:
    facts = task.get("metadata", {}).get("facts")
    return [fact for fact in facts if isinstance(fact, str)] if isinstance(facts, list) else []


def _reviewer(fields: dict[str, Any]) -> str:
    name = fields.get("reviewer")
    name = " ".join(name.split()) if isinstance(name, str) else ""
    if not 1 <= len(name) <= 80:
        raise RequestError(400, "expected the reviewer's name, 1 to 80 characters")
    return name
