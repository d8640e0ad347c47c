"""Process 1 of the container: speaks to the host, owns the worker, ends what has to be ended.

As process 1 of its namespace nothing inside can signal it, and as a non-dumpable process nothing inside can open its
descriptors: what it says about how a run ended comes from wait statuses, clocks and the cgroup, not from foreign code.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from . import files
from .capture import Capture
from .frames import Broken, FrameParser, frame, read_exactly, read_header, write_all
from .job import Job
from .process import PR_SET_DUMPABLE, Meter, become_untrusted, prctl
from .programs import run_program
from .worker import MAX_ERROR, Worker

HOST_IN, HOST_OUT = 0, 1
WORK = "/tmp/work"
GRACE_SECONDS = 0.5
PROGRAM_GRACE_SECONDS = 1.5
"""Longer than a cell's: the tree is being killed, not asked, and on a busy machine that takes several turns."""


class Supervisor:
    """Serves one host over standard input and output."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Make the work folder and the worker."""
        self._output_bytes = int(config["output_bytes"])
        self._value_bytes = int(config["value_bytes"])
        self._flood_bytes = int(config["flood_bytes"])
        self._cpu_seconds = float(config["cpu_seconds"])
        prctl(PR_SET_DUMPABLE, 0)
        os.makedirs(WORK, exist_ok=True)
        os.chdir(WORK)
        os.environ.update(HOME=WORK, PWD=WORK, TMPDIR="/tmp", LC_ALL="C.UTF-8", PYTHONDONTWRITEBYTECODE="1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._meter = Meter()
        self._ended: dict[int, int] = {}
        self._wake, wake_in = os.pipe()
        for descriptor in (self._wake, wake_in):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        # Process 1 cannot be signalled from inside, except by the signals it handles: Python handles SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._output = os.pipe()
        self._errors = os.pipe()
        for pipe in (self._output, self._errors):
            os.set_blocking(pipe[0], False)
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._worker = os.fork()
        if self._worker == 0:
            self._become_worker(theirs.fileno())
        theirs.close()

    def serve(self) -> None:
        """Answer the host until it goes away."""
        write_all(HOST_OUT, frame({"id": 0, "ready": True}))
        poll = select.poll()
        poll.register(HOST_IN, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._wake in ready:
                self._reap()
            if HOST_IN in ready:
                header, length = read_header(HOST_IN)
                self._answer(header, length)

    def _answer(self, header: dict[str, Any], length: int) -> None:
        identifier, kind = header["id"], header["kind"]
        unread = length

        def rest(count: int) -> None:
            nonlocal unread
            unread = count

        try:
            if kind == "cell":
                rest(0)
                self._run(identifier, header, self._cell_job(identifier, read_exactly(HOST_IN, length)))
            elif kind == "program":
                rest(0)
                data = read_exactly(HOST_IN, length)
                self._run(identifier, header, self._program_job(identifier, header, data))
            elif kind == "put":
                files.put(WORK, header["path"], length, HOST_IN, rest)
                write_all(HOST_OUT, frame({"id": identifier}))
            elif kind == "get":
                files.get(WORK, header["path"], header["max_bytes"], identifier, HOST_OUT)
            elif kind == "list":
                names = b"\0".join(os.fsencode(name) for name in files.listing(WORK))
                write_all(HOST_OUT, frame({"id": identifier}, names))
        except files.Refused as refusal:
            while unread:
                unread -= len(read_exactly(HOST_IN, min(unread, files.CHUNK)))
            write_all(HOST_OUT, frame({"id": identifier, "refused": str(refusal)}))
        except OSError as error:
            # The foreign code has used up what this process needs too (processes, descriptors, memory).
            write_all(HOST_OUT, frame({"id": identifier, "failure": f"the session is exhausted: {error.strerror}"}))

    def _cell_job(self, identifier: int, code: bytes) -> Job:
        stdout = Capture(self._output[0], self._output_bytes)
        stderr = Capture(self._errors[0], self._output_bytes)
        for stream in (stdout, stderr):  # what background threads wrote since the last cell belongs to no run
            leftover = Capture(stream.descriptor, 0)
            while leftover.total < 2**20 and leftover.read():
                pass
        return Job(
            identifier=identifier,
            process=self._worker,
            stop_signal=signal.SIGINT,
            stdout=stdout,
            stderr=stderr,
            send=self._control.fileno(),
            data=frame({"id": identifier}, code),
            reply=self._control.fileno(),
            parser=FrameParser(self._value_bytes + MAX_ERROR, 4096),
            is_cell=True,
        )

    def _program_job(self, identifier: int, header: dict[str, Any], data: bytes) -> Job:
        pipes = [os.pipe() for _ in range(4)]
        stdin, stdout, stderr, reply = pipes
        try:
            process = os.fork()
        except OSError:
            for pipe in pipes:
                os.close(pipe[0])
                os.close(pipe[1])
            raise
        if process == 0:
            for descriptor in (self._control.fileno(), stdin[1], stdout[0], stderr[0], reply[0]):
                os.close(descriptor)
            environment = {str(name): str(value) for name, value in header["environment"].items()}
            streams = (stdin[0], stdout[1], stderr[1])
            run_program(identifier, [str(part) for part in header["arguments"]], environment, streams, reply[1])
        for descriptor in (stdin[0], stdout[1], stderr[1], reply[1]):
            os.close(descriptor)
        for descriptor in (stdin[1], stdout[0], stderr[0], reply[0]):
            os.set_blocking(descriptor, False)
        return Job(
            identifier=identifier,
            process=process,
            stop_signal=signal.SIGTERM,
            stdout=Capture(stdout[0], self._output_bytes),
            stderr=Capture(stderr[0], self._output_bytes),
            send=stdin[1],
            data=data,
            reply=reply[0],
            parser=FrameParser(0, 4096),
            is_cell=False,
        )

    def _run(self, identifier: int, header: dict[str, Any], job: Job) -> None:
        kills, cpu, started = self._meter.memory_kills(), self._meter.cpu_seconds(), time.monotonic()
        why = self._follow(job, started + float(header["timeout"]))
        wall = time.monotonic() - started
        job.drain()
        out_of_memory = self._meter.memory_kills() > kills
        alive = self._worker not in self._ended and not job.lost
        status = why or job.status(out_of_memory)
        if not alive and status in ("ok", "error", "killed"):
            status = "memory" if out_of_memory else "killed"
        stdout, stderr = job.stdout.data(), job.stderr.data()
        value = job.value if status == "ok" else None
        error = job.error if status in ("error", "killed") else b""
        answer = {
            "id": identifier,
            "status": status,
            "alive": alive,
            "cut": job.cut,
            "exit_code": job.exit_code if status in ("ok", "error") else None,
            "wait": self._ended.get(job.process),
            "lengths": [len(stdout), len(stderr), -1 if value is None else len(value), len(error)],
            "wall": wall,
            "cpu": max(self._meter.cpu_seconds() - cpu, 0.0),
            "peak": self._meter.peak_memory(),
        }
        job.close()
        write_all(HOST_OUT, frame(answer, stdout + stderr + (value or b"") + error))

    def _follow(self, job: Job, ends: float) -> str | None:
        """Serve a job's descriptors until it answers, dies or is ended; the reason, where it was ended."""
        poll = select.poll()
        poll.register(HOST_IN, 0)
        poll.register(self._wake, select.POLLIN)
        job.register(poll)
        reason = None
        look = 0.0
        while not job.done:
            now = time.monotonic()
            if reason is None and now >= look:
                look = now + 0.1
                if self._meter.cpu_seconds() > self._cpu_seconds:
                    reason, ends = "timeout", now
            if now >= ends:
                if reason is not None:
                    return self._end_everything(job, reason)
                reason, ends = "timeout", now + (GRACE_SECONDS if job.is_cell else PROGRAM_GRACE_SECONDS)
                job.interrupt()
            for descriptor, _ in poll.poll(max(min(ends - time.monotonic(), 0.1), 0) * 1000 + 1):
                if descriptor == HOST_IN:
                    os._exit(0)  # the host is gone; with process 1 everything inside ends
                if descriptor == self._wake:
                    self._reap()
                    died = job.process in self._ended or self._worker in self._ended
                    if died and not job.answered():  # it may have answered just before
                        return self._end_everything(job, reason)
                elif not job.serve(poll, descriptor):
                    return self._end_everything(job, reason)
            if job.stdout.total + job.stderr.total > self._flood_bytes:
                return self._end_everything(job, "output_limit")
        return reason

    def _end_everything(self, job: Job, reason: str | None) -> str | None:
        job.lost = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        patience = time.monotonic() + 0.1
        while job.process not in self._ended and time.monotonic() < patience:
            time.sleep(0.0005)
            self._reap()
        return reason

    def _reap(self) -> None:
        try:
            while os.read(self._wake, 4096):
                pass
        except BlockingIOError:
            pass
        try:
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    return
                if len(self._ended) > 64:
                    self._ended = {self._worker: self._ended[self._worker]} if self._worker in self._ended else {}
                self._ended[process] = status
        except ChildProcessError:
            pass

    def _become_worker(self, control: int) -> NoReturn:
        try:
            become_untrusted(self._null, self._output[1], self._errors[1], keep=(control,))
            Worker(control, self._value_bytes).serve()
        finally:
            os._exit(1)


def serve(config: dict[str, Any]) -> None:
    """Run until the host goes away."""
    with contextlib.suppress(Broken):
        Supervisor(config).serve()
