"""timm's DenseNets: their dense blocks and transitions, whose batch norms end in their ReLU."""

from timm.layers import BatchNormAct2d, SyncBatchNormAct
from timm.models.densenet import DenseBlock, DenseLayer, DenseTransition
from torch import nn

from ..lean.examination import know, know_norm_with_relu
from ..lean.module_check import watch
from .densenet_parts import LeanDenseBlock, LeanTransition

know(DenseLayer)
watch(DenseLayer, "drop_rate")
for _norm in (BatchNormAct2d, SyncBatchNormAct):
    know_norm_with_relu(_norm, drop=nn.Identity, act=nn.ReLU)


class LeanTimmBlock(LeanDenseBlock, DenseBlock):
    """A dense block of timm that runs as a lean program."""

    lean_replaces = DenseBlock
    layer_class = DenseLayer


class LeanTimmTransition(LeanTransition, DenseTransition):
    """A transition of timm that runs as a lean program."""

    lean_replaces = DenseTransition
