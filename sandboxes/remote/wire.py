"""What travels between the client and the server: JSON with the fields of `Limits` and `RunResult`, and their schemas.

Files travel as they are. Every refusal is an `Error`: one sentence, and a kind that says whose failure it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NoReturn

from jsonschema import Draft202012Validator

from ..sandbox import Limits, RunResult, RunStatus

KEY_HEADER = "Idempotency-Key"
"""A whole number that grows with every operation of a session: the operation of one number is carried out once."""
STATUS_OF_KIND = {
    "bad_request": 400,
    "unauthorised": 401,
    "unknown_session": 404,
    "superseded": 409,
    "too_large": 413,
    "usage": 422,
    "busy": 429,
    "internal": 500,
    "unavailable": 503,
}
"""`usage` is a `SandboxUsageError`, `busy` is worth another try, everything else is the infrastructure's."""


class WireError(ValueError):
    """What arrived is not what was agreed; one sentence."""


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_COUNT = {"type": "integer", "minimum": 0}
_SECONDS = {"type": "number", "minimum": 0}
_TEXT_OR_NONE = {"type": ["string", "null"]}
_TIMEOUT = {"type": ["number", "null"], "description": "Wall seconds; null means the limit of the session."}
_LIMITS = _object(
    {item.name: {"type": "number" if item.type == "float" else "integer", "minimum": 0} for item in fields(Limits)}, []
)
SCHEMAS: dict[str, dict[str, Any]] = {
    "Limits": _LIMITS,
    "Open": _object({"limits": _LIMITS}, ["limits"]),
    "Cell": _object({"code": {"type": "string"}, "timeout": _TIMEOUT}, ["code"]),
    "Program": _object(
        {
            "arguments": {"type": "array", "items": {"type": "string"}},
            "stdin": {"type": "string", "contentEncoding": "base64"},
            "environment": {"type": "object", "additionalProperties": {"type": "string"}},
            "timeout": _TIMEOUT,
        },
        ["arguments"],
    ),
    "RunResult": _object(
        {
            "status": {"enum": [str(status) for status in RunStatus]},
            "stdout": {"type": "string"},
            "stderr": {"type": "string"},
            "value": _TEXT_OR_NONE,
            "error": _TEXT_OR_NONE,
            "exit_code": {"type": ["integer", "null"]},
            "truncated": {"type": "boolean"},
            "wall_seconds": _SECONDS,
            "cpu_seconds": _SECONDS,
            "peak_memory_bytes": _COUNT,
            "alive": {"type": "boolean"},
        },
        [item.name for item in fields(RunResult)],
    ),
    "Files": _object({"files": {"type": "array", "items": {"type": "string"}}}, ["files"]),
    "About": _object(
        {
            "sandbox": {"type": "object", "additionalProperties": {"type": "string"}},
            "limits": _LIMITS,
            "max_body_bytes": _COUNT,
            "idle_seconds": _SECONDS,
        },
        ["sandbox", "limits", "max_body_bytes", "idle_seconds"],
    ),
    "Health": _object({"status": {"enum": ["ok", "closing"]}}, ["status"]),
    "Error": _object({"kind": {"enum": list(STATUS_OF_KIND)}, "error": {"type": "string"}}, ["kind", "error"]),
}
_VALIDATORS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}


def dump(content: Any) -> bytes:
    """JSON; lone surrogates, which UTF-8 has no bytes for, as escapes."""
    try:
        return json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(content).encode()


def load(body: bytes, schema: str) -> dict[str, Any]:
    """An object of one of `SCHEMAS`.

    Raises:
        WireError: the body is no JSON, or not of that schema.
    """
    try:
        content = json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body is no JSON: {str(error)[:200]}") from None
    problem = next(_VALIDATORS[schema].iter_errors(content), None)
    if problem is not None:
        place = "/".join(map(str, problem.absolute_path)) or "the body"
        raise WireError(f"expected {schema}; {place}: {problem.message[:200]}")
    return dict(content)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def load_result(body: bytes) -> RunResult:
    """A result.

    Raises:
        WireError: it is none.
    """
    content = load(body, "RunResult")
    return RunResult(**{**content, "status": RunStatus(content["status"])})


def dump_result(result: RunResult) -> bytes:
    """The body of a result."""
    return dump(asdict(result))


def as_json(limits: Limits) -> dict[str, Any]:
    """Limits as an object."""
    return asdict(limits)


def load_limits(content: Mapping[str, Any]) -> Limits:
    """Limits; those not given are the defaults."""
    kinds = {item.name: float if item.type == "float" else int for item in fields(Limits)}
    values: dict[str, Any] = {name: kinds[name](value) for name, value in content.items()}
    return Limits(**values)


def load_bytes(text: str) -> bytes:
    """What base64 stands for.

    Raises:
        WireError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireError("stdin is not base64") from None


def dump_bytes(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")
