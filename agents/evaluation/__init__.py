"""Evaluation: episodes in, a report card with intervals out."""

from .evaluate import EvaluationError, evaluate
from .grade import compare_runs, make_report_card, pass_rates_of
from .records import EpisodeRecord
from .report_card import Calibration, DifficultyLevel, ReportCard
from .statistics import Estimate, PairedComparison

__all__ = [
    "Calibration",
    "DifficultyLevel",
    "EpisodeRecord",
    "Estimate",
    "EvaluationError",
    "PairedComparison",
    "ReportCard",
    "compare_runs",
    "evaluate",
    "make_report_card",
    "pass_rates_of",
]
