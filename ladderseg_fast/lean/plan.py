"""The choices that trade time for memory."""

from dataclasses import dataclass, fields

MIB = 1 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """How a lean step spends memory.

    Work on strips of rows, or on groups of whole images, bounds what exists at a time of maps that need not exist in
    full. Smaller strips repeat more work at their edges.

    chunk_bytes: bytes of the largest map in a strip of a bottleneck whose second batch norm does not wait for the
        statistics of the whole batch (evaluation, frozen batch norm), and of the gradient of the images.
    transition_up_bytes: bytes of one half of the concatenation in a strip of a transition-up. Where a half is all in
        one strip it is made once a pass; otherwise twice in training: for its statistics or its batch norm's
        correction, and for the convolution.
    """

    chunk_bytes: int = 8 * MIB
    transition_up_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be positive, got {getattr(self, field.name)}")
