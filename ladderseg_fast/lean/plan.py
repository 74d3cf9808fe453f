"""The choices that trade time for memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..ops.backend import backend_of

MIB = 1 << 20


def _check_positive(plan: Any, *names: str) -> None:
    for name in names:
        value = getattr(plan, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class SectionPlan:
    """Choices for one section of the encoder (a dense block or a residual layer, or a part), or for the context layer.

    keep_bottlenecks_from: results of 1x1 convolutions that read at least so many channels are kept for backward;
        None: no result is kept. The others are recomputed, in time proportional to the channels read. All results of a
        section have the same size, so the last ones are the ones worth keeping. In a residual layer: results of the
        first convolutions of bottlenecks, and of the second ones of basic blocks.
    bottleneck_bytes: backward recomputes a bottleneck in strips of so many bytes, twice in training: for batch norm's
        sums, and for the gradient. None: all of it at once. In a residual layer: the result of a bottleneck's last
        convolution; None: at once up to twice MemoryPlan.chunk_bytes, beyond that in strips of half of it.
    recompute: the section's features are not kept; backward recomputes them from the section's input, and from then on
        keeps bottlenecks as `keep_bottlenecks_from` says. Not for a section that an average pooling leads to.
        In a residual layer the output is kept all the same, and the hidden maps are not.
    keep_skip: the projection that the transition-up reads is kept instead of recomputed; `recompute` needs it.
    keep_outputs_from: in a residual layer, outputs of so many channels and more are kept, all of them and not every
        sixth; None: none. Not with `recompute`.

    Raises:
        ValueError: a number is not positive, `recompute` lacks `keep_skip`, or `keep_outputs_from` comes with it.
    """

    keep_bottlenecks_from: int | None = 512
    bottleneck_bytes: int | None = None
    recompute: bool = False
    keep_skip: bool = False
    keep_outputs_from: int | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "keep_bottlenecks_from", "bottleneck_bytes", "keep_outputs_from")
        if self.recompute and not self.keep_skip:
            raise ValueError("a section that is recomputed must keep its skip connection: keep_skip must be True")
        if self.recompute and self.keep_outputs_from is not None:
            raise ValueError("a section that is recomputed keeps no outputs: keep_outputs_from must be None")

    def keeps_bottleneck(self, channels: int) -> bool:
        """Whether the result of a 1x1 convolution that reads so many channels is kept for backward."""
        return self.keep_bottlenecks_from is not None and channels >= self.keep_bottlenecks_from

    def keeps_output(self, channels: int) -> bool:
        """Whether all outputs of a residual layer with so many channels are kept for backward."""
        return self.keep_outputs_from is not None and channels >= self.keep_outputs_from


@dataclass(frozen=True)
class MemoryPlan:
    """Choices that say how a lean step spends memory.

    Maps that need not exist in full are made in strips of rows, or in groups of whole images, which bounds their
    memory. Smaller strips repeat more work at their edges.

    chunk_bytes: bytes of the largest map in a strip of a transition, and of a bottleneck whose second batch norm does
        not wait for the statistics of the whole batch (evaluation, frozen batch norm).
    transition_up_bytes: bytes of one half of the concatenation in a strip of a transition-up. A half that fits into one
        strip is computed once a pass; otherwise twice in training: for its statistics or its batch norm's correction,
        and for the convolution.
    spread: maps whose pixels would compete for few sets of a cache get one more cache line per pixel: 6 to 12 % of a
        map for 6 to 13 % of a product's time (Workspace.take).
    keep_bottlenecks_from: as in SectionPlan, for the dense blocks and the context layer that `sections` does not name.
    residual: plan of the residual layers that `sections` does not name; usually only what saves a 3x3 convolution is
        kept.
    sections: plans of single sections, by name ("db1", "db2", ..., "layer1", ..., "context").

    memory.plan finds a plan that fits into a budget.
    """

    chunk_bytes: int = 8 * MIB
    transition_up_bytes: int = 32 * MIB
    spread: bool = True
    keep_bottlenecks_from: int | None = 512
    residual: SectionPlan = SectionPlan(None)
    sections: Mapping[str, SectionPlan] = field(default_factory=dict, hash=False)

    @staticmethod
    def default(device: torch.device) -> "MemoryPlan":
        """The plan used unless another is chosen; on CUDA it recomputes less, because memory traffic takes time there.

        For LDN-121 at 2 x 1024x2048 in float32 that saves 2.3 GB of traffic, as counted (benchmarks/NOTES.md); the kept
        maps and the larger strip take about 0.45 GB.
        """
        if backend_of(device).on_gpu:
            return MemoryPlan(transition_up_bytes=160 * MIB, keep_bottlenecks_from=256)
        return MemoryPlan()

    def __post_init__(self) -> None:
        _check_positive(self, "chunk_bytes", "transition_up_bytes", "keep_bottlenecks_from")

    @property
    def key(self) -> tuple[object, ...]:
        """The plan as it is now, for comparisons with what it may have become."""
        return self, tuple(self.sections.items())

    def as_dict(self) -> dict[str, Any]:
        """Dict of numbers, strings and None, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> "MemoryPlan":
        """Makes the plan that `as_dict` described.

        Raises:
            ValueError: `content` does not describe a plan.
        """
        try:
            sections = {name: SectionPlan(**section) for name, section in content.get("sections", {}).items()}
            residual = SectionPlan(**content.get("residual", {"keep_bottlenecks_from": None}))
            return MemoryPlan(**{**content, "residual": residual, "sections": sections})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not the content of a memory plan: {error}") from error

    def section(self, name: str) -> SectionPlan:
        """Plan of the section `name`."""
        return self.sections.get(name) or SectionPlan(self.keep_bottlenecks_from)

    def residual_section(self, name: str) -> SectionPlan:
        """Plan of the residual layer `name`."""
        return self.sections.get(name) or self.residual
