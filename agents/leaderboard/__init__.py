"""Leaderboards that can be trusted: suites, runs of them, verification by replay, a static site."""

from __future__ import annotations

from .result import EntryResult, Result, TaskResult, compare_results, grade_run, read_result
from .run import run_suite
from .run_files import AgentCard, RunError, RunFiles
from .suite import Suite, SuiteEntry, SuiteError, load_suite
from .verify import Finding, Verification, verify_run

__all__ = [
    "AgentCard",
    "EntryResult",
    "Finding",
    "Result",
    "RunError",
    "RunFiles",
    "Suite",
    "SuiteEntry",
    "SuiteError",
    "TaskResult",
    "Verification",
    "compare_results",
    "grade_run",
    "load_suite",
    "read_result",
    "run_suite",
    "verify_run",
]
