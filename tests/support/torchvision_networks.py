"""Other people's networks, for comparison: torchvision's, timm's, segmentation_models_pytorch's.

They are there even if torchvision's compiled operators do not load.

torchvision is built for one release of torch. With another its library of operators may not load, and then importing
it fails, as it registers shape functions for operators that nobody has declared. The classifiers need none of these:
declaring the names before the import is enough.
"""

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

#: The operators that torchvision, when imported, registers something for without asking whether they are there.
_WANTED = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision() -> ModuleType:
    """torchvision, or a skipped test where it is not installed."""
    return _imported("torchvision")


def timm() -> ModuleType:
    """timm, or a skipped test where it or torchvision, which it imports, is not installed."""
    torchvision()
    return _imported("timm")


def segmentation_models() -> ModuleType:
    """segmentation_models_pytorch, or a skipped test where it or one that it imports is not installed."""
    timm()
    return _imported("segmentation_models_pytorch")


@functools.cache
def _imported(package: str) -> ModuleType:
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    if package == "torchvision" and not _operators_load(Path(spec.origin).parent):
        _declare_operators()
    return importlib.import_module(package)


def _operators_load(package: Path) -> bool:
    for library in package.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:
            return False
        return True
    return False


def _declare_operators() -> None:
    """Keeps the declarations for the life of the process: they go when their Library object does."""
    _declare_operators.library = library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _WANTED:
        library.define(name + _SCHEMA)
