"""The choices that trade time for memory."""

from dataclasses import dataclass, fields

import torch

from ..ops.backend import runs_on_cuda

MIB = 1 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """How a lean step spends memory.

    Work on strips of rows, or on groups of whole images, bounds what exists at a time of maps that need not exist in
    full. Smaller strips repeat more work at their edges.

    chunk_bytes: bytes of the largest map in a strip of a transition, of the gradient of the images, and of a bottleneck
        whose second batch norm does not wait for the statistics of the whole batch (evaluation, frozen batch norm).
    transition_up_bytes: bytes of one half of the concatenation in a strip of a transition-up. Where a half is all in
        one strip it is made once a pass; otherwise twice in training: for its statistics or its batch norm's
        correction, and for the convolution.
    keep_bottlenecks_from: the results of 1x1 convolutions in dense layers, and in the context layer, that read at least
        so many channels are kept for backward; None: none are. Each that is not is made again, which takes time in
        proportion to the channels that it reads, while all of a dense block are of one size.
    """

    chunk_bytes: int = 8 * MIB
    transition_up_bytes: int = 32 * MIB
    keep_bottlenecks_from: int | None = 512

    @staticmethod
    def default(device: torch.device) -> "MemoryPlan":
        """What is best where nobody has chosen: on CUDA less is made twice, for there memory's traffic takes time.

        Counted for LDN-121 at 2 x 1024x2048 in float32, it moves 2.3 GB less (benchmarks/NOTES.md); the maps kept and
        the larger strip are about 0.45 GB.
        """
        if runs_on_cuda(device):
            return MemoryPlan(transition_up_bytes=160 * MIB, keep_bottlenecks_from=256)
        return MemoryPlan()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(f"{field.name} must be positive, got {value}")

    def keeps_bottleneck(self, channels: int) -> bool:
        """Whether backward finds the result of a 1x1 convolution that reads so many channels."""
        return self.keep_bottlenecks_from is not None and channels >= self.keep_bottlenecks_from
