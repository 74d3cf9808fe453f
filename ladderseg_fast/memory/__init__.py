"""Memory: estimated before anything runs, and planned into a budget."""

from .budget import format_bytes, parse_bytes
from .estimate import OPTIMIZERS, Estimate
from .planner import BudgetError, Planned, Planner
from .steps import estimate, largest_batch, largest_size, plan, planner_for
from .work import Rates

__all__ = [
    "OPTIMIZERS",
    "BudgetError",
    "Estimate",
    "Planned",
    "Planner",
    "Rates",
    "estimate",
    "format_bytes",
    "largest_batch",
    "largest_size",
    "parse_bytes",
    "plan",
    "planner_for",
]
