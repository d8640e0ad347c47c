"""Runs inside SandboxFusion, as the program of one request: one cell or one program, then what it left behind.

Everything it says goes into one file, which the request has fetched. The code that it runs could write that file
itself: it would only lie about its own value.
"""

# It runs in whatever Python the service has: no imports of ours, nothing newer than Python 3.8.

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from typing import Any

JOB, RESULT = ".forethought-job.json", ".forethought-result.json"


def run_cell(code: str, namespace: dict[str, Any]) -> tuple[str | None, str | None]:
    """The value of the last expression as text, and the traceback, each None where there is none."""
    try:
        tree = ast.parse(code, "<cell>")
        last = tree.body[-1] if tree.body else None
        value = None
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "<cell>", "exec"), namespace)
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
        else:
            exec(compile(tree, "<cell>", "exec"), namespace)
        return (None if value is None else repr(value)), None
    except BaseException as error:
        lines = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        return None, "".join(lines)


def run_program(job: dict[str, Any]) -> tuple[int, str | None]:
    """Exit code, or minus the signal, and an error where it could not be started."""
    with open(job["stdin_file"], "rb") as stdin:
        os.unlink(job["stdin_file"])
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        environment["HOME"] = os.getcwd()
        environment.update(job["environment"])
        try:
            return subprocess.call(job["arguments"], stdin=stdin, env=environment), None
        except OSError as error:
            return 127, "{}: {}".format(job["arguments"][0], error.strerror)


def files_below(home: str, hidden: set[str], most_bytes: int, most_files: int) -> dict[str, str] | None:
    """The regular files as base64 by path; None where they are more than may be kept."""
    found: dict[str, str] = {}
    size = 0
    for folder, names, files in os.walk(home):
        names[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]
        for name in files:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, home)
            if relative in hidden or os.path.islink(path) or not os.path.isfile(path):
                continue
            size += os.path.getsize(path)
            if size > most_bytes or len(found) >= most_files:
                return None
            try:
                relative.encode()
                with open(path, "rb") as file:
                    found[relative] = base64.b64encode(file.read()).decode("ascii")
            except (OSError, UnicodeEncodeError):
                continue
    return found


def main() -> None:
    """Do the job and write the result."""
    home = os.getcwd()
    with open(JOB, encoding="utf-8") as file:
        job = json.load(file)
    os.unlink(JOB)
    result: dict[str, Any] = {"value": None, "error": None, "exit_code": None}
    began = time.monotonic()
    if "code" in job:
        namespace = {"__name__": "__main__", "__builtins__": __builtins__}
        sys.stdin = open(os.devnull)  # noqa: SIM115 - the cell reads it
        result["value"], result["error"] = run_cell(job["code"], namespace)
    else:
        result["exit_code"], result["error"] = run_program(job)
    result["wall"] = time.monotonic() - began
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    who = resource.RUSAGE_SELF if "code" in job else resource.RUSAGE_CHILDREN
    usage = resource.getrusage(who)
    result["cpu"], result["peak"] = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    hidden = {os.path.basename(__file__), RESULT}
    result["files"] = files_below(home, hidden, job["disk_bytes"], job["inodes"])
    with open(os.path.join(home, RESULT), "w", encoding="ascii") as file:
        json.dump(result, file)
    os._exit(0)  # Threads that the code left behind are not waited for.


main()
