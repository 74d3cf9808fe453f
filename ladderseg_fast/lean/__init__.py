"""The lean step: networks as explicit programs of stages that keep little and recompute cheaply."""

from .examination import UnsupportedModuleError
from .functions import (
    basic_dense_block,
    context,
    dense_block,
    head,
    residual_layer,
    stem,
    transition,
    transition_up,
)
from .opaque import opaque
from .plan import MemoryPlan, SectionPlan
from .workspace import Workspace

__all__ = [
    "MemoryPlan",
    "SectionPlan",
    "UnsupportedModuleError",
    "Workspace",
    "basic_dense_block",
    "context",
    "dense_block",
    "head",
    "opaque",
    "residual_layer",
    "stem",
    "transition",
    "transition_up",
]
