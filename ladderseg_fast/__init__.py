"""Ladder-style DenseNets for semantic segmentation, trained in a fraction of the memory by exact mathematics."""

import os

# Before the core, which uses the OpenMP runtime that torch has loaded and brings none of its own.
import torch  # noqa: F401

try:
    from . import _core
except ModuleNotFoundError as error:
    raise ImportError(
        "ladderseg_fast has no compiled core (_core): this is a source tree that was not installed. "
        "Run `pip install .` (or `pip install -e .`) in it; if it is installed, start Python in another directory."
    ) from error

if "LADDERSEG_FAST_ISA" in os.environ:
    _core.set_instruction_set(os.environ["LADDERSEG_FAST_ISA"])

from . import lean, memory, ops
from ._version import __version__
from .lean import MemoryPlan
from .models import (
    LadderDenseNet,
    LadderLoss,
    LadderOutput,
    LadderResNet,
    SegmentationModel,
    create_model,
    list_models,
)

__all__ = [
    "LadderDenseNet",
    "LadderLoss",
    "LadderOutput",
    "LadderResNet",
    "MemoryPlan",
    "SegmentationModel",
    "__version__",
    "create_model",
    "lean",
    "list_models",
    "memory",
    "ops",
]
