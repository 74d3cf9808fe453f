"""A training's course as one self-contained HTML page."""

from .page import MOST_RUNS, write_report

__all__ = ["MOST_RUNS", "write_report"]
