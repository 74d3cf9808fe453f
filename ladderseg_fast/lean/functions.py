"""Stages and networks as functions of their modules.

Each returns what the plain module would, differentiable once, keeping for backward only what ALGORITHMS.md sections 2
and 5 say. All take `plan` and `workspace`; without a workspace, buffers are reused within the call only.
Errors are those of program.run, and a ValueError for an input of another number of channels than the module reads.
"""

from torch import Tensor, nn

from ..nn import Context, DenseBlock, Head, Transition, TransitionUp
from .plan import MemoryPlan
from .program import Program, run
from .stages import (
    AveragePoolStage,
    ContextStage,
    CopyStage,
    DenseBlockStage,
    HeadStage,
    ProjectionStage,
    StemStage,
    TransitionStage,
    TransitionUpStage,
)
from .workspace import Workspace


def stem(
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    images: Tensor,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """max_pool2d(relu(norm(conv(images))), 3, stride 2, padding 1) for a 7x7 convolution with stride 2 and padding 3.

    images [N, 3, H, W] -> [N, C, ceil(ceil(H / 2) / 2), ceil(ceil(W / 2) / 2)].

    Raises:
        ValueError: besides those of program.run, for a convolution that is not such a one.
    """
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.bias)
    if geometry != ((7, 7), (2, 2), (3, 3), (1, 1), 1, None) or conv.padding_mode != "zeros":
        raise ValueError(f"conv must be 7x7 with stride 2, zero padding 3 and no bias, got {conv}")
    _check_channels("images", images, conv.in_channels)
    program = Program([StemStage(conv, norm, "images", "out", conv.out_channels)], ("images",), ("out",))
    return run(program, [images], plan, workspace)[0]


def dense_block(
    block: DenseBlock,
    x: Tensor,
    start: int = 0,
    stop: int | None = None,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """block(x, start, stop): x [N, C, H, W] -> [N, C + layers * growth_rate, H, W]."""
    stage = DenseBlockStage(block, "block", start, stop)
    if not stage.layers:
        return x
    expected = stage.layers[0].norm1.num_features
    _check_channels("x", x, expected)
    channels = expected + len(stage.layers) * block.growth_rate
    program = Program([CopyStage("x", "block", channels), stage], ("x",), ("block",))
    return run(program, [x], plan, workspace)[0]


def transition(
    module: Transition, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> Tensor:
    """module(x): x [N, C, H, W] -> [N, M, H // 2, W // 2]."""
    _check_channels("x", x, module.norm.num_features)
    program = Program([TransitionStage(module, "x", "out")], ("x",), ("out",))
    return run(program, [x], plan, workspace)[0]


def context(module: Context, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None) -> Tensor:
    """module(x): x [N, C, H, W] -> [N, M, H, W]."""
    _check_channels("x", x, module.norm1.num_features)
    return run(Program([ContextStage(module, "x", "out")], ("x",), ("out",)), [x], plan, workspace)[0]


def transition_up(
    module: TransitionUp,
    coarse: Tensor,
    skip: Tensor,
    plan: MemoryPlan | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """module(coarse, skip): coarse [N, D, h, w], skip [N, C, H, W] -> [N, M, H, W]."""
    _check_channels("coarse", coarse, module.norm.num_features - module.skip_conv.out_channels)
    _check_channels("skip", skip, module.skip_norm.num_features)
    if coarse.shape[0] != skip.shape[0]:
        raise ValueError(f"coarse and skip must be of one batch size, got {coarse.shape[0]} and {skip.shape[0]}")
    stages = [
        ProjectionStage(module, "skip", "projected"),
        TransitionUpStage(module, "coarse", "skip", "projected", "out"),
    ]
    program = Program(stages, ("coarse", "skip"), ("out",))
    return run(program, [coarse, skip], plan, workspace)[0]


def head(module: Head, x: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None) -> Tensor:
    """module(x): x [N, C, H, W] -> class scores [N, K, H, W]."""
    _check_channels("x", x, module.norm.num_features)
    return run(Program([HeadStage(module, "x", "out")], ("x",), ("out",)), [x], plan, workspace)[0]


def ladder_densenet(
    model: nn.Module, images: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> tuple[Tensor, Tensor]:
    """Logits and auxiliary logits of a models.LadderDenseNet as one program; images [N, 3, H, W]."""
    return run(ladder_densenet_program(model), [images], plan, workspace)


def ladder_densenet_program(model: nn.Module) -> Program:
    """The program of a models.LadderDenseNet (the paper's Figure 1)."""
    features = model.features
    block1, block2, block3, block4 = (getattr(features, f"denseblock{i}") for i in (1, 2, 3, 4))
    split_channels = block4.in_channels + model.split * block4.growth_rate
    stages = [
        StemStage(features.conv0, features.norm0, "images", "db1", block1.out_channels),
        DenseBlockStage(block1, "db1"),
        ProjectionStage(model.up4, "db1", "skip4"),
        TransitionStage(features.transition1, "db1", "transition1"),
        CopyStage("transition1", "db2", block2.out_channels),
        DenseBlockStage(block2, "db2"),
        ProjectionStage(model.up3, "db2", "skip3"),
        TransitionStage(features.transition2, "db2", "transition2"),
        CopyStage("transition2", "db3", block3.out_channels),
        DenseBlockStage(block3, "db3"),
        ProjectionStage(model.up2, "db3", "skip2"),
        TransitionStage(features.transition3, "db3", "transition3"),
        CopyStage("transition3", "db4a", split_channels),
        DenseBlockStage(block4, "db4a", stop=model.split),
        ProjectionStage(model.up1, "db4a", "skip1"),
        AveragePoolStage("db4a", "db4b", block4.out_channels),
        DenseBlockStage(block4, "db4b", start=model.split),
        ContextStage(model.context, "db4b", "context"),
        HeadStage(model.aux_head, "context", "aux"),
        TransitionUpStage(model.up1, "context", "db4a", "skip1", "up1"),
        TransitionUpStage(model.up2, "up1", "db3", "skip2", "up2"),
        TransitionUpStage(model.up3, "up2", "db2", "skip3", "up3"),
        TransitionUpStage(model.up4, "up3", "db1", "skip4", "up4"),
        HeadStage(model.head, "up4", "logits"),
    ]
    return Program(stages, ("images",), ("logits", "aux"))


def _check_channels(name: str, x: Tensor, expected: int) -> None:
    if x.dim() != 4 or x.shape[1] != expected:
        raise ValueError(f"{name} must be [N, {expected}, H, W], got shape {tuple(x.shape)}")
