"""A model's lean program: an encoder, a context layer, transitions-up, heads.

The transitions-up read skip connections from the encoder's features; the context layer reads the last feature.
"""

from collections.abc import Collection, Iterator, Sequence

from ..lean import MemoryPlan
from ..lean.examination import Examination
from ..lean.parts import PartedProgram
from ..lean.program import Program
from ..lean.sections import context_stages, skip_stage
from ..lean.stages import HeadStage, Repeatable, ResidualStage, Stage, TransitionUpStage
from ..nn import Context, Head, PyramidContext, TransitionUp
from .network import Network


def program_of(network: Network, plan: MemoryPlan, kept_skips: Collection[str] = ()) -> Program:
    """The program of `network`, from "images".

    kept_skips: skip connections, by their sources, that are kept whatever `plan` says.

    Raises:
        ValueError: `plan` recomputes a section that an average pooling leads to.
    """
    ups, encoder = network.transitions_up, network.design.encoder
    skips = {name: skip_stage(up, name, _skip_name(name)) for name, up in ups.items()}
    stages = [*encoder.stages(network.features, skips), *_decoder_stages(network, plan, kept_skips)]
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


def program_sections(network: Network) -> list[str]:
    """The sections of the program, in the order of the forward pass; the last cannot be cut off from what follows."""
    return [*network.features.channels, "context", *_up_names(network).values(), "head"]


def parted_program_of(network: Network, plan: MemoryPlan, cuts: Sequence[str]) -> PartedProgram:
    """The program of `network` in parts that end after the sections `cuts`, in the order of the forward pass.

    A transition stays with the dense block before it, because its output is the smaller feature to hand on. A skip
    connection is projected where its section is; the projection is kept if the transition-up is in another part.

    Raises: as `program_of`.
    """
    sections = program_sections(network)
    numbers = [sections.index(name) for name in cuts]

    def part_of(section: str) -> int:
        return sum(sections.index(section) > number for number in numbers)

    ups = _up_names(network)
    program = program_of(network, plan, [name for name, up in ups.items() if part_of(name) != part_of(up)])
    return PartedProgram(program, [_start(network, program, sections[number + 1]) for number in numbers])


def _start(network: Network, program: Program, section: str) -> int:
    """Number of the first stage of a section other than the first."""
    context = set(network.context.modules())
    feature = "logits" if section == "head" else section
    return next(
        i
        for i, stage in enumerate(program.stages)
        if stage.writes == feature or (section == "context" and not context.isdisjoint(stage.modules))
    )


def cut_names(network: Network) -> dict[str, str]:
    """The section after which a cut lies, by the names that a user may give: sections, and modules that end one.

    Modules have the names of the state_dict, with or without "features.".
    """
    sections = program_sections(network)[:-1]
    names = {section: section for section in sections}
    last_stage = {stage.writes: set(stage.modules) for stage in program_of(network, MemoryPlan()).stages}
    for prefix, parent in (("", network), ("features.", network.features)):
        for child, module in parent.named_children():
            ends = [name for name in sections if not last_stage[name].isdisjoint(module.modules())]
            if ends and child != "features":
                names[child] = names[prefix + child] = ends[-1]
    return names


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


def _decoder_stages(network: Network, plan: MemoryPlan, kept_skips: Collection[str]) -> Iterator[Stage]:
    yield from context_stages(network.context, network.deepest, "context")
    if network.aux_head is not None:
        yield HeadStage(network.aux_head, "context", "aux")
    coarse = "context"
    for i, (name, up) in enumerate(network.transitions_up.items(), start=1):
        keep_skip = plan.section(name).keep_skip or name in kept_skips
        yield TransitionUpStage(up, coarse, name, _skip_name(name), f"up{i}", keep_skip)
        coarse = f"up{i}"
    yield HeadStage(network.head, coarse, "logits")


def _up_names(network: Network) -> dict[str, str]:
    """Features of the transitions-up by the sections whose skip connections they read."""
    return {name: f"up{i}" for i, name in enumerate(network.transitions_up, start=1)}


def _skip_name(name: str) -> str:
    return f"skip of {name}"
