"""From what the host saw to a result: statuses, times, memory."""

from __future__ import annotations

import os
import signal
import time

from ..sandbox import Limits, RunResult, RunStatus
from .machine import Machine


class Account:
    """What one session has used so far, and why its runs ended."""

    def __init__(self, limits: Limits, machine: Machine) -> None:
        self._limits = limits
        self._session = machine
        self._cpu_seen = 0.0
        self._kills_seen = 0

    def of_cell(self, *, late: bool, alive: bool, began: float) -> RunResult:
        """The result of a cell that is over."""
        machine = self._session
        stdout, cut_out = machine.stdout.text()
        stderr, cut_err = machine.stderr.text()
        reply, report = machine.reply, machine.report or {"cpu": self._cpu_seen, "peak": 0}
        if reply is None or machine.stopped is not None:
            status, error = self._why(machine, late, "the interpreter")
            cpu, peak = self._usage(report["cpu"], int(report["peak"]))
            value, cut_value = None, False
        else:
            status = RunStatus.TIMEOUT if late else RunStatus.ERROR if reply.failed else RunStatus.OK
            error = reply.error or ("it ran into the time limit" if late else "")
            cpu, peak = self._usage(reply.cpu_seconds, reply.peak)
            value, cut_value = reply.value, reply.cut
        return RunResult(
            status=status,
            stdout=stdout,
            stderr=stderr,
            value=value,
            error=error or None,
            truncated=cut_out or cut_err or cut_value,
            wall_seconds=time.monotonic() - began,
            cpu_seconds=cpu,
            peak_memory_bytes=peak,
            alive=alive,
        )

    def of_program(self, program: Machine, *, late: bool, alive: bool, began: float) -> RunResult:
        """The result of a program that is over."""
        stdout, cut_out = program.stdout.text()
        stderr, cut_err = program.stderr.text()
        report = program.report or {"cpu": 0.0, "peak": 0}
        ended = int(report.get("status", -1))
        exit_code: int | None = None
        error: str | None = None
        status = RunStatus.OK
        if program.stopped is None and not late and program.report is not None and os.WIFEXITED(ended):
            exit_code = os.WEXITSTATUS(ended)
            if exit_code:
                status = RunStatus.MEMORY if self._killed_for_memory() else RunStatus.ERROR
                error = f"exit status {exit_code}"
        else:
            status, error = self._why(program, late, "the program")
        cpu, peak = self._usage(self._cpu_seen + report["cpu"], int(report["peak"]))
        return RunResult(
            status=status,
            stdout=stdout,
            stderr=stderr,
            error=error,
            exit_code=exit_code,
            truncated=cut_out or cut_err,
            wall_seconds=time.monotonic() - began,
            cpu_seconds=cpu,
            peak_memory_bytes=peak,
            alive=alive,
        )

    def _why(self, machine: Machine, late: bool, what: str) -> tuple[RunStatus, str]:
        """Why a run ended that the host or the kernel ended."""
        if machine.stopped is not None:
            return RunStatus(machine.stopped[0]), machine.stopped[1]
        if late:
            return RunStatus.TIMEOUT, "it ran into the time limit and could not be interrupted"
        if self._killed_for_memory():
            return RunStatus.MEMORY, f"it used more than {self._limits.memory_bytes} bytes of memory"
        if machine.report is None:
            return RunStatus.KILLED, f"the channel to {what} broke"
        status = int(machine.report["status"])
        if os.WIFEXITED(status):
            return RunStatus.KILLED, f"{what} ended with exit status {os.WEXITSTATUS(status)}"
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return RunStatus.TIMEOUT, f"it used more than {self._limits.cpu_seconds} seconds of CPU time"
        return RunStatus.KILLED, f"{what} was ended by signal {number} ({signal.strsignal(number)})"

    def _killed_for_memory(self) -> bool:
        """Whether the kernel has done so since the last time somebody asked."""
        group, before = self._session.group, self._kills_seen
        self._kills_seen = 0 if group is None else group.kills()
        return self._kills_seen > before

    def _usage(self, said_cpu: float, said_peak: int) -> tuple[float, int]:
        """CPU seconds since the last run and the peak: counted by the kernel where it can, else as the worker says."""
        group = self._session.group
        total = said_cpu
        if group is not None:
            counted = group.cpu_seconds()
            total = said_cpu if counted is None else counted
            said_peak = group.peak() or said_peak
        used = max(0.0, total - self._cpu_seen)
        self._cpu_seen = max(total, self._cpu_seen)
        return used, said_peak
