"""The stages that compute a module of nn/ in a program."""

from torch import nn

from ..nn import Context, PyramidContext, Transition, TransitionUp
from .stages import ContextStage, ConvolutionStage, ProjectionStage, PyramidStage, Stage, TransitionStage


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
