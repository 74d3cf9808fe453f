"""Functions that run single modules of nn/ as lean programs.

Each returns what the plain module would, differentiable once, and keeps for backward only what ALGORITHMS.md sections 2
and 5 say. All take `plan` and `workspace`; without a workspace, buffers are reused within the call only.
All raise the errors of program.run, UnsupportedModuleError for an edited module that the program would not reproduce,
and ValueError for an input whose number of channels differs from what the module reads.
"""

import torch
from torch import Tensor, nn

from ..nn import BasicDenseBlock, Context, DenseBlock, Head, PyramidContext, Transition, TransitionUp
from ..ops.deferred_checks import expect
from ..ops.layout import is_channels_last
from .module_check import check_modules, check_stem
from .opaque import opaque
from .plan import MemoryPlan
from .program import Program, run
from .sections import basic_dense_block_stages, context_stages, skip_stage, transition_stage
from .stages import (
    CopyStage,
    DenseBlockStage,
    HeadStage,
    ResidualStage,
    StemStage,
    TransitionUpStage,
)
from .workspace import Workspace


@opaque
def stem(
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    images: Tensor,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """max_pool2d(relu(norm(conv(images))), 3, stride 2, padding 1) for a 7x7 convolution with stride 2 and padding 3.

    images [N, 3, H, W] -> [N, C, ceil(ceil(H / 2) / 2), ceil(ceil(W / 2) / 2)].
    """
    check_stem(conv, norm)
    _check_channels("images", images, conv.in_channels)
    program = Program([StemStage(conv, norm, "images", "out", conv.out_channels)], ("images",), ("out",))
    return run(program, [images], plan, workspace)[0]


@opaque
def dense_block(
    block: DenseBlock,
    x: Tensor,
    start: int = 0,
    stop: int | None = None,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """block(x, start, stop): x [N, C, H, W] -> [N, C + layers * growth_rate, H, W]."""
    check_modules(block)
    stage = DenseBlockStage(block, "block", start, stop)
    if not stage.layers:
        return x
    expected = stage.layers[0].norm1.num_features
    _check_channels("x", x, expected)
    channels = expected + len(stage.layers) * block.growth_rate
    program = Program([CopyStage("x", "block", channels), stage], ("x",), ("block",))
    return run(program, [x], plan, workspace)[0]


@opaque
def basic_dense_block(
    block: BasicDenseBlock, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> Tensor:
    """block(x): x [N, C, H, W] -> [N, C + layers * growth_rate, H, W], or the new channels if block.new_only.

    Dropout draws from torch's generator what it draws in the plain block; backward keeps its mask: a number per channel
    and image of nn.Dropout2d, a byte per element of nn.Dropout.
    """
    check_modules(block)
    layers = [*block.layers]
    if not layers:
        return block(x)
    _check_channels("x", x, block.in_channels)
    stages = basic_dense_block_stages(layers, block.new_only, is_channels_last(x), "x", "out")
    return run(Program(stages, ("x",), ("out",)), [x], plan, workspace)[0]


@opaque
def residual_layer(
    units: nn.Sequential, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> Tensor:
    """units(x) for residual units such as nn.Bottleneck: x [N, C, H, W] -> [N, M, ceil(H / stride), ceil(W / stride)].

    x is not negative, like the output of a ReLU. Its gradient is exact where x is positive; where x is 0, the part that
    comes through the first convolution is left out, since that ReLU's backward would drop it.

    Raises:
        ValueError: x is negative somewhere. On CUDA a later call raises it (ops.deferred_checks).
    """
    check_modules(units)
    stage = ResidualStage(units, "x", "layer")
    _check_channels("x", x, stage.units[0].in_channels)
    if x.numel():
        expect(torch.where(x.detach().amin() < 0, 0, -1), lambda _: "x must not be negative, like what a ReLU gives")
    return run(Program([stage], ("x",), ("layer",)), [x], plan, workspace)[0]


@opaque
def transition(
    module: Transition, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> Tensor:
    """module(x): x [N, C, H, W] -> [N, M, H // 2, W // 2], or [N, M, H, W] if it does not pool."""
    check_modules(module)
    _check_channels("x", x, module.norm.num_features)
    program = Program([transition_stage(module, "x", "out")], ("x",), ("out",))
    return run(program, [x], plan, workspace)[0]


@opaque
def context(
    module: Context | PyramidContext, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> Tensor:
    """module(x): x [N, C, H, W] -> [N, M, H, W]."""
    check_modules(module)
    _check_channels("x", x, module.norm1.num_features)
    return run(Program(context_stages(module, "x", "out"), ("x",), ("out",)), [x], plan, workspace)[0]


@opaque
def transition_up(
    module: TransitionUp,
    coarse: Tensor,
    skip: Tensor,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """module(coarse, skip): coarse [N, D, h, w], skip [N, C, H, W] -> [N, M, H, W].

    Raises:
        ValueError: a map does not have the channels that `module` reads, or the batch sizes differ.
    """
    check_modules(module)
    _check_channels("coarse", coarse, module.norm.num_features - module.skip_conv.out_channels)
    _check_channels("skip", skip, module.skip_norm.num_features)
    if coarse.shape[0] != skip.shape[0]:
        raise ValueError(f"coarse and skip must have the same batch size, got {coarse.shape[0]} and {skip.shape[0]}")
    stages = [
        skip_stage(module, "skip", "projected"),
        TransitionUpStage(module, "coarse", "skip", "projected", "out"),
    ]
    program = Program(stages, ("coarse", "skip"), ("out",))
    return run(program, [coarse, skip], plan, workspace)[0]


@opaque
def head(module: Head, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None) -> Tensor:
    """module(x): x [N, C, H, W] -> class scores [N, K, H, W]."""
    check_modules(module)
    _check_channels("x", x, module.norm.num_features)
    return run(Program([HeadStage(module, "x", "out")], ("x",), ("out",)), [x], plan, workspace)[0]


def _check_channels(name: str, x: Tensor, expected: int) -> None:
    if x.dim() != 4 or x.shape[1] != expected:
        raise ValueError(f"{name} must be [N, {expected}, H, W], got shape {tuple(x.shape)}")
