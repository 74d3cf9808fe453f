"""Operators, each in a file named after it: checks, kernels and their cost, plain-torch reference, registration."""

from .. import _core
from . import batch_norm, prepared_norms, reference, stem  # noqa: F401
from .bn_add_relu import bn_add_relu
from .bn_relu import bn_relu
from .bn_relu_avgpool2 import bn_relu_avgpool2
from .bn_relu_conv1x1 import bn_relu_conv1x1
from .bn_relu_conv3x3 import bn_relu_conv3x3
from .bn_relu_maxpool import bn_relu_maxpool
from .bn_relu_patches import bn_relu_patches
from .channel_statistics import channel_statistics
from .kernel import check_declared
from .upsample_argmax import upsample_argmax
from .upsample_cross_entropy import upsample_cross_entropy
from .upsample_dice_loss import upsample_cross_entropy_dice_loss, upsample_dice_loss
from .upsample_ohem_cross_entropy import upsample_ohem_cross_entropy
from .upsample_project_concat import upsample_project_concat

__all__ = [
    "bn_add_relu",
    "bn_relu",
    "bn_relu_avgpool2",
    "bn_relu_conv1x1",
    "bn_relu_conv3x3",
    "bn_relu_maxpool",
    "bn_relu_patches",
    "channel_statistics",
    "reference",
    "upsample_argmax",
    "upsample_cross_entropy",
    "upsample_cross_entropy_dice_loss",
    "upsample_dice_loss",
    "upsample_ohem_cross_entropy",
    "upsample_project_concat",
]

# The imports include the kernels of batch norm and the stem, which no public operator calls.
check_declared(_core.kernel_names())
