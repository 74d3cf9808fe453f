"""torchvision's DenseNets: their dense blocks and transitions."""

from torchvision.models.densenet import _DenseBlock, _DenseLayer, _Transition

from ..lean.examination import know
from ..lean.module_check import watch
from .densenet_parts import LeanDenseBlock, LeanTransition

know(_DenseLayer)
watch(_DenseLayer, "drop_rate")


class LeanTorchvisionBlock(LeanDenseBlock, _DenseBlock):
    """A dense block of torchvision that runs as a lean program."""

    lean_replaces = _DenseBlock
    layer_class = _DenseLayer


class LeanTorchvisionTransition(LeanTransition, _Transition):
    """A transition of torchvision that runs as a lean program."""

    lean_replaces = _Transition
