"""Whole networks as programs: an encoder, a context layer, transitions up, heads.

The encoder's features that transitions up read are its skip connections, the last one is what the context layer reads.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from ..nn import Context, DenseNetFeatures, PyramidContext, ResNetFeatures, Section, Transition, TransitionUp
from .module_check import check_modules
from .opaque import opaque
from .plan import MemoryPlan
from .program import Program, run
from .stages import (
    AveragePoolStage,
    ContextStage,
    ConvolutionStage,
    CopyStage,
    DenseBlockStage,
    HeadStage,
    ProjectionStage,
    PyramidStage,
    Repeatable,
    Stage,
    StemStage,
    TransitionStage,
    TransitionUpStage,
)
from .workspace import Workspace


@opaque
def ladder(
    model: nn.Module, images: Tensor, plan: MemoryPlan | None = None, workspace: Workspace | None = None
) -> tuple[Tensor, ...]:
    """Logits, and auxiliary logits if it has them, of a models.SegmentationModel; images [N, C, H, W].

    A DenseNet is one program with all that follows. Of a ResNet the stem is a program, the residual units are torch's,
    and what follows them is a program again.

    Raises:
        UnsupportedModuleError: a module of `model` is not what the programs compute in its place; see module_check.
    """
    check_modules(model)
    if isinstance(model.features, DenseNetFeatures):
        plan = plan or MemoryPlan.default(images.device)
        return run(densenet_program(model, plan), [images], plan, workspace)
    return _resnet_ladder(model, images, plan, workspace)


def densenet_program(model: nn.Module, plan: MemoryPlan) -> Program:
    """The program of a models.SegmentationModel with a DenseNet, from "images".

    Raises:
        ValueError: `plan` recomputes a section that an average pooling leads to.
    """
    stages = [*_densenet_stages(model.features, model.transitions_up), *_decoder_stages(model, plan)]
    names = [section.name for section in model.features.sections]
    recomputed = frozenset(name for name in names if plan.section(name).recompute)
    program = Program(stages, ("images",), _outputs(model), recomputed)
    for name in recomputed:
        if not all(isinstance(stage, Repeatable) for stage in program.writers(name)):
            raise ValueError(f"the memory plan recomputes {name}, which an average pooling leads to")
    return program


def decoder_program(model: nn.Module, plan: MemoryPlan) -> Program:
    """The program of what follows the encoder of a models.SegmentationModel, from the features that it reads."""
    ups = model.transitions_up
    stages = [skip_stage(up, name, _skip_name(name)) for name, up in ups.items()]
    return Program([*stages, *_decoder_stages(model, plan)], (*ups, model.deepest), _outputs(model))


def transition_stage(transition: Transition, source: str, target: str) -> Stage:
    """`transition` from feature `source` to feature `target`, pooled or not."""
    if isinstance(transition.pool, nn.Identity):
        # The next block's first norm is most likely in the mode of this one.
        return ProjectionStage(transition.norm, transition.conv, transition.norm, source, target)
    return TransitionStage(transition, source, target)


def skip_stage(up: TransitionUp, source: str, target: str) -> Stage:
    """The projection of the skip connection `source` of `up`."""
    return ProjectionStage(up.skip_norm, up.skip_conv, up.norm, source, target)


def context_stages(context: Context | PyramidContext, source: str, target: str) -> list[Stage]:
    """`context` from feature `source` to feature `target`."""
    if isinstance(context, Context):
        return [ContextStage(context, source, target)]
    return [
        ProjectionStage(context.norm1, context.conv1, context.norm2, source, "hidden"),
        PyramidStage(context, "hidden", "pyramid"),
        ConvolutionStage(context.norm3, context.conv3, "pyramid", target),
    ]


def _resnet_ladder(
    model: nn.Module, images: Tensor, plan: MemoryPlan | None, workspace: Workspace | None
) -> tuple[Tensor, ...]:
    features: ResNetFeatures = model.features
    plan = plan or MemoryPlan.default(images.device)
    stage = StemStage(features.conv1, features.bn1, "images", "out", features.conv1.out_channels)
    x = run(Program([stage], ("images",), ("out",)), [images], plan, workspace)[0]
    maps = features.stages(x)
    program = decoder_program(model, plan)
    return run(program, [maps[name] for name in program.inputs], plan, workspace)


def _densenet_stages(features: DenseNetFeatures, ups: Mapping[str, TransitionUp]) -> Iterator[Stage]:
    before = None
    for section in features.sections:
        yield from _entry_stages(features, section, before)
        yield DenseBlockStage(features.block(section), section.name, section.start, section.stop)
        if section.name in ups:
            yield skip_stage(ups[section.name], section.name, _skip_name(section.name))
        before = section.name


def _entry_stages(features: DenseNetFeatures, section: Section, before: str | None) -> Iterator[Stage]:
    """Into the first channels of the section's buffer, from the section `before`, or from the images."""
    name, channels = section.name, section.channels
    if before is None:
        yield StemStage(features.conv0, features.norm0, "images", name, channels)
    elif section.start > 0:
        yield AveragePoolStage(before, name, channels)
    else:
        between = f"transition{section.block - 1}"
        yield transition_stage(features.transition(section), before, between)
        yield CopyStage(between, name, channels)


def _decoder_stages(model: nn.Module, plan: MemoryPlan) -> Iterator[Stage]:
    yield from context_stages(model.context, model.deepest, "context")
    if model.aux_head is not None:
        yield HeadStage(model.aux_head, "context", "aux")
    coarse = "context"
    for i, (name, up) in enumerate(model.transitions_up.items(), start=1):
        keep_skip = plan.section(name).keep_skip
        yield TransitionUpStage(up, coarse, name, _skip_name(name), f"up{i}", keep_skip)
        coarse = f"up{i}"
    yield HeadStage(model.head, coarse, "logits")


def _skip_name(name: str) -> str:
    return f"skip of {name}"


def _outputs(model: nn.Module) -> tuple[str, ...]:
    return ("logits",) if model.aux_head is None else ("logits", "aux")
