"""The process that stands between the supervisor and one program: it ends with the program's whole tree dead."""

from __future__ import annotations

import os
import signal
import time

from .frames import frame, write_all
from .process import PR_SET_CHILD_SUBREAPER, become_untrusted, descendants, prctl


class _TimeUp(Exception):
    pass


def run_program(
    identifier: int, arguments: list[str], environment: dict[str, str], streams: tuple[int, int, int], reply: int
) -> None:
    """Run a program to its end or to SIGTERM, kill what it left behind, report its wait status. Never returns."""
    status = None
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        signal.signal(signal.SIGTERM, _time_up)
        program = os.fork()
        if program == 0:
            _become(arguments, environment, streams)
        for descriptor in streams:
            os.close(descriptor)
        while status is None:
            ended, code = os.waitpid(-1, 0)
            if ended == program:
                status = code
    except _TimeUp:
        pass
    except OSError as error:
        write_all(reply, frame({"id": identifier, "failure": f"the program could not be started: {error.strerror}"}))
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _kill_the_rest()
    write_all(reply, frame({"id": identifier, "code": status}))
    os._exit(0)


def _time_up(number: int, stack: object) -> None:
    raise _TimeUp


def _become(arguments: list[str], environment: dict[str, str], streams: tuple[int, int, int]) -> None:
    code = 126
    try:
        os.setsid()
        become_untrusted(*streams)
        os.execvpe(arguments[0], arguments, {**os.environ, **environment})
    except (FileNotFoundError, NotADirectoryError):
        code = 127
        os.write(2, os.fsencode(arguments[0]) + b": not found\n")
    except (OSError, ValueError) as error:
        os.write(2, os.fsencode(f"{arguments[0]}: {error}\n"))
    finally:
        os._exit(code)


def _kill_the_rest() -> None:
    # As a subreaper this process is the ancestor of everything the program started, daemons included. A bomb that
    # forks faster than this loop kills is ended by the supervisor, which kills everything at once.
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for process in descendants(os.getpid()):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.001)
