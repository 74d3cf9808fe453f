"""The stages that compute a module of nn/ in a program."""

from collections.abc import Sequence

from torch import nn

from ..nn import Context, PyramidContext, Transition, TransitionUp
from .stages import (
    BasicDenseBlockStage,
    BasicLayer,
    ContextStage,
    ConvolutionStage,
    CopyStage,
    LastChannelsStage,
    ProjectionStage,
    PyramidStage,
    Stage,
    TransitionStage,
)


def basic_dense_block_stages(
    layers: Sequence[BasicLayer], new_only: bool, channels_last: bool, source: str, target: str, copies: bool = False
) -> list[Stage]:
    """Stages that run layers without bottleneck from feature `source` to feature `target`.

    new_only: `target` is the channels that the layers add, without those of `source`.
    channels_last: whether the plain layers would read a map in this layout.
    copies: `target` is a copy, which no backward pass reads: steps with other results are not repeated.
    """
    channels = layers[0].norm.num_features
    copies = copies or new_only
    block = "block" if copies else target
    stages: list[Stage] = [
        CopyStage(source, block, channels + sum(layer.conv.out_channels for layer in layers)),
        BasicDenseBlockStage(layers, block, channels_last),
    ]
    return [*stages, LastChannelsStage(block, target, channels if new_only else 0)] if copies else stages


def transition_stage(transition: Transition, source: str, target: str) -> Stage:
    """Stage that runs `transition` from feature `source` to feature `target`, pooled or not."""
    if isinstance(transition.pool, nn.Identity):
        # The next block's first norm most likely has the same mode as this one.
        return ProjectionStage(transition.norm, transition.conv, transition.norm, source, target)
    return TransitionStage(transition, source, target)


def skip_stage(up: TransitionUp, source: str, target: str) -> Stage:
    """Stage that projects the skip connection `source` of `up` to feature `target`."""
    return ProjectionStage(up.skip_norm, up.skip_conv, up.norm, source, target)


def context_stages(context: Context | PyramidContext, source: str, target: str) -> list[Stage]:
    """Stages that run `context` from feature `source` to feature `target`."""
    if isinstance(context, Context):
        return [ContextStage(context, source, target)]
    return [
        ProjectionStage(context.norm1, context.conv1, context.norm2, source, "hidden"),
        PyramidStage(context, "hidden", "pyramid"),
        ConvolutionStage(context.norm3, context.conv3, "pyramid", target),
    ]
