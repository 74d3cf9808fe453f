"""A model's lean program: an encoder, a context layer, transitions-up, heads.

The transitions-up read skip connections from the encoder's features; the context layer reads the last feature.
"""

from collections.abc import Iterator

from ..lean import MemoryPlan
from ..lean.examination import Examination
from ..lean.program import Program
from ..lean.sections import context_stages, skip_stage
from ..lean.stages import HeadStage, Repeatable, ResidualStage, Stage, TransitionUpStage
from ..nn import Context, Head, PyramidContext, TransitionUp
from .network import Network


def program_of(network: Network, plan: MemoryPlan) -> Program:
    """The program of `network`, from "images".

    Raises:
        ValueError: `plan` recomputes a section that an average pooling leads to.
    """
    ups, encoder = network.transitions_up, network.design.encoder
    skips = {name: skip_stage(up, name, _skip_name(name)) for name, up in ups.items()}
    stages = [*encoder.stages(network.features, skips), *_decoder_stages(network, plan)]
    outputs = ("logits",) if network.aux_head is None else ("logits", "aux")
    # A residual layer makes again what it has not kept; its output stays, since the next one reads it.
    written = {stage.writes for stage in stages if not isinstance(stage, ResidualStage)}
    sections = written.intersection(network.features.channels)
    recomputed = frozenset(name for name in sections if plan.section(name).recompute)
    program = Program(stages, ("images",), outputs, recomputed | encoder.made_again)
    for name in program.recomputed:
        if not all(isinstance(stage, Repeatable) for stage in program.writers(name)):
            raise ValueError(f"the memory plan recomputes {name}, which an average pooling leads to")
    return program


def examine(network: Network, look: Examination) -> None:
    """Examines all modules of `network` that its program computes.

    Raises:
        UnsupportedModuleError: a module computes something else.
    """
    given = network.features.channels
    network.design.encoder.examine(look, "features", network.features)
    reads, coarse = look.section("context", network.context, Context, PyramidContext)
    look.same("context", "reads", reads, given[network.deepest], "the encoder gives")
    if network.aux_head is not None:
        reads, _ = look.section("aux_head", network.aux_head, Head)
        look.same("aux_head", "reads", reads, coarse, "the context layer gives")
    for i, (name, up) in enumerate(network.transitions_up.items(), start=1):
        path = f"up{i}"
        upsampled, skip, channels = look.section(path, up, TransitionUp)
        look.same(path, "reads skip connections", skip, given[name], f"the encoder gives ({name})")
        look.same(path, "upsamples", upsampled, coarse, "are there")
        coarse = channels
    reads, _ = look.section("head", network.head, Head)
    look.same("head", "reads", reads, coarse, "are there")


def _decoder_stages(network: Network, plan: MemoryPlan) -> Iterator[Stage]:
    yield from context_stages(network.context, network.deepest, "context")
    if network.aux_head is not None:
        yield HeadStage(network.aux_head, "context", "aux")
    coarse = "context"
    for i, (name, up) in enumerate(network.transitions_up.items(), start=1):
        keep_skip = plan.section(name).keep_skip
        yield TransitionUpStage(up, coarse, name, _skip_name(name), f"up{i}", keep_skip)
        coarse = f"up{i}"
    yield HeadStage(network.head, coarse, "logits")


def _skip_name(name: str) -> str:
    return f"skip of {name}"
