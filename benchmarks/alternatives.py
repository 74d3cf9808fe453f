"""Ways to run one training step that the benchmarks compare, all from the same parameters.

`plain` is ordinary PyTorch, `compile` the same under torch.compile. The `checkpoint-*` methods are plain with
torch.utils.checkpoint, placed as an expert places it: the concatenation of a layer's inputs is inside the checkpoint
(as in torchvision's `memory_efficient=True`), so each layer keeps its new features and no concatenation.

Each of them exists twice. `NAME-lean-loss` takes LadderLoss(memory="lean") instead of F.interpolate and
F.cross_entropy, as whoever sees where a plain step's time goes would do first: on a GPU most of it is the backward of
the upsampling of the class scores. `lean` is this package's network and loss.

Every checkpoint here has a known defect: the recomputation runs BatchNorm in training mode a second time, so the
running statistics are updated twice per step. Loss and gradients are not affected.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ladderseg_fast import LadderLoss, SegmentationModel, create_model
from ladderseg_fast.nn import Context, DenseBlock, DenseLayer, Head, Transition, TransitionUp

#: Runs one dense layer on the pieces [N, C_i, H, W] that concatenate to its input.
LayerRunner = Callable[[DenseLayer, list[Tensor]], Tensor]


def plain(model: SegmentationModel, loss: LadderLoss) -> None:
    """Runs the model without recomputation."""


def compiled(model: SegmentationModel, loss: LadderLoss) -> None:
    """Runs torch.compile of the model; its kernels are compiled in the first step."""
    model.compile()


def checkpoint_bottleneck(model: SegmentationModel, loss: LadderLoss) -> None:
    """Recomputes concatenation - BN - ReLU - conv 1x1 of each dense layer."""

    def run(layer: DenseLayer, pieces: list[Tensor]) -> Tensor:
        bottleneck = _recomputed(lambda *inputs: layer.bottleneck(torch.cat(inputs, dim=1)), *pieces)
        return layer.conv2(layer.relu2(layer.norm2(bottleneck)))

    _replace_dense_blocks(model, run)


def checkpoint_layer(model: SegmentationModel, loss: LadderLoss) -> None:
    """Recomputes each whole dense layer."""

    def run(layer: DenseLayer, pieces: list[Tensor]) -> Tensor:
        return _recomputed(lambda *inputs: layer(torch.cat(inputs, dim=1)), *pieces)

    _replace_dense_blocks(model, run)


def checkpoint_everything(model: SegmentationModel, loss: LadderLoss) -> None:
    """Recomputes each dense layer, the stem, transitions down and up, context, heads and the plain loss."""
    checkpoint_layer(model, loss)
    for module in (*model.modules(), loss):
        if isinstance(module, (Transition, TransitionUp, Context, Head)) or module is loss and loss.memory == "plain":
            module.forward = _with_recomputation(module.forward)
    model.features.stem = _with_recomputation(model.features.stem)


#: Each changes a model made with memory="plain" in place, and its loss. `lean` is not here: it is a memory mode.
ALTERNATIVES: dict[str, Callable[[SegmentationModel, LadderLoss], None]] = {
    "plain": plain,
    "compile": compiled,
    "checkpoint-bottleneck": checkpoint_bottleneck,
    "checkpoint-layer": checkpoint_layer,
    "checkpoint-everything": checkpoint_everything,
}

LEAN_LOSS = "-lean-loss"
#: What a method's name has after that of its network: nothing for PyTorch's own loss.
LOSSES = ("", LEAN_LOSS)

METHODS = (*(name + loss for name in ALTERNATIVES for loss in LOSSES), "lean")


def build(method: str, name: str, num_classes: int, channels_last: bool) -> tuple[SegmentationModel, LadderLoss]:
    """Model and loss of `method`, one of METHODS. `channels_last` concerns all but lean, which picks its own layout."""
    if method == "lean":
        return create_model(name, num_classes, memory="lean"), LadderLoss(memory="lean")
    model = create_model(name, num_classes, memory="plain")
    loss = LadderLoss(memory="lean" if method.endswith(LEAN_LOSS) else "plain")
    if channels_last:
        model.to(memory_format=torch.channels_last)
    ALTERNATIVES[method.removesuffix(LEAN_LOSS)](model, loss)
    return model, loss


def _replace_dense_blocks(model: SegmentationModel, run: LayerRunner) -> None:
    for module in model.modules():
        if isinstance(module, DenseBlock):
            module.forward = _dense_block_forward(module, run)


def _dense_block_forward(block: DenseBlock, run: LayerRunner) -> Callable[..., Tensor]:
    """DenseBlock.forward with a list of features instead of their concatenation."""

    def forward(features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        pieces = [features]
        for layer in block.layers[start:stop]:
            pieces.append(run(layer, pieces))
        return torch.cat(pieces, dim=1)

    return forward


def _with_recomputation(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *inputs: _recomputed(function, *inputs)


def _recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    # The network draws no random numbers, so their state need not be saved.
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
