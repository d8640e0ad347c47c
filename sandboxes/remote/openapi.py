"""The OpenAPI document of the server."""

from __future__ import annotations

from typing import Any

from .wire import KEY_HEADER, SCHEMAS, STATUS_OF_KIND

_SESSION = {
    "name": "session",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "description": "A random name that the client chose when it opened the session.",
}
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
    "description": "Grows with every operation of the session. Sent again, an operation is not carried out again: its "
    "answer is. A later one cancels one that still runs.",
}
_PATH = {
    "name": "path",
    "in": "query",
    "required": True,
    "schema": {"type": "string"},
    "description": "Relative to the work folder.",
}
_MAX_BYTES = {
    "name": "max_bytes",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0, "default": 2**20},
}
_RAW = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _operation(
    name: str,
    summary: str,
    *,
    parameters: tuple[dict[str, Any], ...] = (),
    body: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    public: bool = False,
) -> dict[str, Any]:
    """One operation; every one may be refused with an `Error`."""
    done: dict[str, Any] = {"description": "Done."} | ({"content": answer} if answer else {})
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200" if answer else "204": done},
    }
    if public:
        operation["security"] = []
    else:
        refusals = {str(status): _refusal(kind) for kind, status in STATUS_OF_KIND.items()}
        operation["responses"] |= refusals
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _refusal(kind: str) -> dict[str, Any]:
    return {"description": kind, "content": _json("Error")}


PATHS: dict[str, dict[str, Any]] = {
    "/health": {
        "get": _operation("health", "Whether the server takes sessions.", answer=_json("Health"), public=True),
    },
    "/openapi.json": {
        "get": _operation(
            "openapi", "This document.", answer={"application/json": {"schema": {"type": "object"}}}, public=True
        ),
    },
    "/v1/prepare": {
        "post": _operation(
            "prepare",
            "Get ready for sessions with these limits, and say what holds them.",
            body=_json("Open"),
            answer=_json("About"),
        ),
    },
    "/v1/sessions/{session}": {
        "put": _operation("open", "Open a session.", parameters=(_SESSION,), body=_json("Open")),
        "delete": _operation("close", "Destroy a session, in the middle of whatever it does.", parameters=(_SESSION,)),
    },
    "/v1/sessions/{session}/cell": {
        "post": _operation(
            "run_cell",
            "Run Python in the session's interpreter. What the code does is a result, never an error.",
            parameters=(_SESSION, _KEY),
            body=_json("Cell"),
            answer=_json("RunResult"),
        ),
    },
    "/v1/sessions/{session}/program": {
        "post": _operation(
            "run_program",
            "Run a program in the work folder, its whole process tree included.",
            parameters=(_SESSION, _KEY),
            body=_json("Program"),
            answer=_json("RunResult"),
        ),
    },
    "/v1/sessions/{session}/reset": {
        "post": _operation("reset", "Make the session pristine.", parameters=(_SESSION, _KEY)),
    },
    "/v1/sessions/{session}/file": {
        "put": _operation("put_file", "Write a file.", parameters=(_SESSION, _KEY, _PATH), body=_RAW),
        "get": _operation("get_file", "Read a regular file.", parameters=(_SESSION, _PATH, _MAX_BYTES), answer=_RAW),
    },
    "/v1/sessions/{session}/files": {
        "get": _operation("list_files", "The regular files.", parameters=(_SESSION,), answer=_json("Files")),
    },
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Forethought sandboxes",
        "version": "1",
        "description": "Sessions that run Python and programs in isolation. A session that no request waits for is "
        "closed after the server's idle time.",
    },
    "security": [{"token": []}],
    "paths": PATHS,
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    },
}
