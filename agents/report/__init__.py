"""Reports: one HTML page, or a table for the terminal, from report cards and training histories."""

from .content import TRAINING_CURVES, Curve, Report, SampleEpisode, Target
from .page import render_page, write_report
from .terminal import format_summary

__all__ = [
    "TRAINING_CURVES",
    "Curve",
    "Report",
    "SampleEpisode",
    "Target",
    "format_summary",
    "render_page",
    "write_report",
]
