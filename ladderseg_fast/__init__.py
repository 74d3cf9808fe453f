"""Ladder-style DenseNets for semantic segmentation, trained in a fraction of the memory by exact mathematics."""

from ._openmp import share_openmp_runtime

# Before the core is loaded, which uses the OpenMP runtime of torch and brings none of its own.
share_openmp_runtime()

try:
    from . import _core as _core
except ImportError as error:
    from ._shadowing import without_core

    without_core(error)
else:
    from . import lean, memory, ops
    from ._instruction_set import choose_instruction_set
    from ._version import __version__
    from .convert import ConversionReport, convert
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
        "ConversionReport",
        "LadderDenseNet",
        "LadderLoss",
        "LadderOutput",
        "LadderResNet",
        "MemoryPlan",
        "SegmentationModel",
        "__version__",
        "convert",
        "create_model",
        "lean",
        "list_models",
        "memory",
        "ops",
    ]

    choose_instruction_set()
