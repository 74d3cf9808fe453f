"""Memory of training steps: estimated before anything runs, and planned to fit into a budget."""

from .api import estimate, largest_batch, largest_size, least_batch, parts_planner_for, placements, plan, planner_for
from .byte_sizes import format_bytes, parse_bytes
from .cost_model import Rates
from .estimate import OPTIMIZERS, Estimate
from .parts_planner import PartsPlanner, PlannedParts
from .planner import BudgetError, PlannedStep, Planner
from .process import memory_in_use, peak_memory

__all__ = [
    "OPTIMIZERS",
    "BudgetError",
    "Estimate",
    "PartsPlanner",
    "PlannedParts",
    "PlannedStep",
    "Planner",
    "Rates",
    "estimate",
    "format_bytes",
    "largest_batch",
    "largest_size",
    "least_batch",
    "memory_in_use",
    "parse_bytes",
    "peak_memory",
    "parts_planner_for",
    "placements",
    "plan",
    "planner_for",
]
