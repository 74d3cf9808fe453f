"""Self-contained HTML page about a training's course."""

from .page import MOST_RUNS, write_report

__all__ = ["MOST_RUNS", "write_report"]
