"""What process 1 says, checked, and what callers ask, checked: no engine is needed to test these."""

from __future__ import annotations

import os
from typing import Any

from ..sandbox import RunResult, RunStatus, SandboxUsageError
from .channel import ChannelBroken

MAX_ERROR_BYTES = 32 * 1024


def check_path(path: str) -> None:
    """Refuse what cannot be a path below the work folder.

    Raises:
        SandboxUsageError: it cannot.
    """
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise SandboxUsageError(f"{path!r} is no relative path below the work folder (no '..', no empty parts)")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise SandboxUsageError(f"{path!r} cannot be a file's name") from error


def failed(status: RunStatus, error: str, *, alive: bool = True, wall: float = 0.0) -> RunResult:
    """A result without output."""
    return RunResult(status=status, error=error, alive=alive, wall_seconds=wall)


def run_result(header: dict[str, Any], body: bytes, seconds: float, value_bytes: int) -> RunResult:
    """The result out of process 1's answer.

    Raises:
        ChannelBroken: it is not such an answer.
    """
    if "failure" in header:
        return failed(RunStatus.ERROR, str(header["failure"])[:1000])
    try:
        status = RunStatus(header["status"])
        lengths = [int(length) for length in header["lengths"]]
        wall, cpu = float(header["wall"]), float(header["cpu"])
        peak, cut, alive, code = int(header["peak"]), header["cut"], header["alive"], header["exit_code"]
        wait = header["wait"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ChannelBroken("the container's answer is no result") from error
    sizes = [max(length, 0) for length in lengths]
    typed = isinstance(cut, bool) and isinstance(alive, bool) and (code is None or type(code) is int)
    if not typed or not (wait is None or type(wait) is int) or len(sizes) != 4 or sum(sizes) != len(body):
        raise ChannelBroken("the container's answer is no result")
    texts = []
    for size in sizes:
        texts.append(body[:size].decode("utf-8", "replace"))
        body = body[size:]
    stdout, stderr, value, error_text = texts
    return RunResult(
        status=status,
        stdout=stdout,
        stderr=stderr,
        value=value if lengths[2] >= 0 else None,
        error=error_text or _reason(status, seconds, wait),
        exit_code=code,
        truncated=cut,
        wall_seconds=wall,
        cpu_seconds=cpu,
        peak_memory_bytes=peak,
        alive=alive,
    )


def _reason(status: RunStatus, seconds: float, wait: int | None) -> str | None:
    if status is RunStatus.TIMEOUT:
        return f"ended: {seconds:g} s of wall time, or the session's CPU time, ran out"
    if status is RunStatus.MEMORY:
        return "ended: the memory limit was reached"
    if status is RunStatus.OUTPUT_LIMIT:
        return "ended: it wrote more output than anybody reads"
    if status is RunStatus.KILLED:
        if wait is None:
            return "the interpreter died"
        if os.WIFSIGNALED(wait):
            return f"the interpreter died: signal {os.WTERMSIG(wait)}"
        return f"the interpreter died: exit status {os.WEXITSTATUS(wait)}"
    return None
