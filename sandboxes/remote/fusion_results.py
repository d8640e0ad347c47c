"""From an answer of SandboxFusion to a result: nothing in it is believed without a look."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from ..faults import SandboxUnavailable
from ..sandbox import Limits, RunResult, RunStatus
from .services import check_path, cut

MAX_ERROR_BYTES = 32 * 1024


def result_of(
    answer: Mapping[str, Any], limits: Limits, seconds: float, *, fetched: str
) -> tuple[RunResult, dict[str, bytes] | None]:
    """The result, and the files that the run left, None where they did not come back.

    Raises:
        SandboxUnavailable: this is no answer of the service.
    """
    run = answer.get("run_result")
    if not isinstance(run, dict) or run.get("status") not in ("Finished", "TimeLimitExceeded"):
        raise SandboxUnavailable(f"SandboxFusion gave no result of the run: {str(answer)[:300]}")
    stdout, cut_out = cut(str(run.get("stdout") or ""), limits.output_bytes)
    stderr, cut_err = cut(str(run.get("stderr") or ""), limits.output_bytes)
    truncated = cut_out or cut_err
    wall = run.get("execution_time")
    said: dict[str, Any] = {"stdout": stdout, "stderr": stderr, "wall_seconds": float(wall or 0.0)}
    if run["status"] == "TimeLimitExceeded":
        error = f"ended: {seconds:g} s of wall time ran out; what it wrote to files is lost"
        return RunResult(status=RunStatus.TIMEOUT, error=error, truncated=truncated, **said), None
    report = _report(answer, fetched)
    if report is None:
        error = f"the interpreter died (exit status {run.get('return_code')})"
        return RunResult(status=RunStatus.KILLED, error=error, truncated=truncated, alive=False, **said), None
    left = _files(report)
    if left is None:
        error = f"ended: more than {limits.disk_bytes} bytes or {limits.inodes} files in the work folder"
        return RunResult(status=RunStatus.KILLED, error=error, truncated=truncated, alive=False, **said), None
    said |= {"cpu_seconds": _number(report, "cpu"), "peak_memory_bytes": int(_number(report, "peak"))}
    said["wall_seconds"] = _number(report, "wall")
    value, cut_value = report.get("value"), False
    if value is not None:
        value, cut_value = cut(str(value), limits.value_bytes)
    error_text = None if report.get("error") is None else cut(str(report["error"]), MAX_ERROR_BYTES)[0]
    if said["wall_seconds"] > seconds:
        # The service's own limit is a little longer than what was asked for.
        return RunResult(
            status=RunStatus.TIMEOUT, error="it ran into the time limit", truncated=truncated, **said
        ), left
    exit_code = report.get("exit_code")
    if isinstance(exit_code, int) and exit_code < 0:
        error = f"the program died: signal {-exit_code}"
        return RunResult(status=RunStatus.KILLED, error=error, truncated=truncated, **said), left
    code = exit_code if isinstance(exit_code, int) else None
    failed = error_text is not None or bool(code)
    status = RunStatus.ERROR if failed else RunStatus.OK
    truncated = truncated or cut_value
    return RunResult(status=status, value=value, error=error_text, exit_code=code, truncated=truncated, **said), left


def _report(answer: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What the driver wrote; None where it did not come to that, or something else wrote it."""
    files = answer.get("files")
    try:
        report = json.loads(base64.b64decode(files[name], validate=True))  # type: ignore[index]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None


def _files(report: Mapping[str, Any]) -> dict[str, bytes] | None:
    files = report.get("files")
    if not isinstance(files, dict):
        return None
    try:
        return {check_path(name): base64.b64decode(content, validate=True) for name, content in files.items()}
    except (TypeError, ValueError):
        return None


def _number(report: Mapping[str, Any], name: str) -> float:
    value = report.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0.0
