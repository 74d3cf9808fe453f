"""The training loss of the paper: cross entropy at full resolution, with an auxiliary term."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..lean import MemoryPlan
from .memory_argument import memory_mode
from .output import LadderOutput


class LadderLoss(nn.Module):
    """Loss (1 - aux_weight) * main + aux_weight * auxiliary, each upsampled bilinearly to the size of the labels.

    For a model without auxiliary scores it is the main term alone.

    Each term is the cross entropy averaged over the pixels whose label is not `ignore_index` (weighted by
    `class_weights` as in nn.CrossEntropyLoss). If there is no such pixel, or all have weight 0, the term and its
    gradient are 0 (PyTorch gives NaN).

    Args:
        ignore_index: label of pixels that do not count.
        class_weights: [K], a tensor of any integer or floating dtype or a list of numbers, or None.
        aux_weight: weight of the auxiliary term; 0.3 in the paper.
        memory: "plain" uses F.interpolate and F.cross_entropy; "lean", and any other value that a model's `memory`
            accepts, never stores class scores at full resolution.

    Raises:
        ValueError: an argument is out of range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Tensor | Sequence[float] | None = None,
        aux_weight: float = 0.3,
        memory: str | int | MemoryPlan = "lean",
    ) -> None:
        super().__init__()
        if not 0.0 <= aux_weight <= 1.0:
            raise ValueError(f"aux_weight must be between 0 and 1, got {aux_weight}")
        self.ignore_index = ignore_index
        self.aux_weight = aux_weight
        self.memory = memory_mode(memory)
        if class_weights is not None and not isinstance(class_weights, Tensor):
            class_weights = torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", class_weights)

    def forward(self, output: LadderOutput, labels: Tensor) -> Tensor:
        """Scalar loss of `output` against `labels` [N, H, W], any integer dtype.

        Raises:
            ValueError: a label is neither in [0, K) nor `ignore_index`, or the shapes do not fit. (With memory="plain"
                PyTorch raises the errors, an IndexError for the label.)
            TypeError: `labels` do not have an integer dtype.
        """
        implementation = ops if self.memory == "lean" else ops.reference
        cross_entropy = implementation.upsample_cross_entropy
        main = cross_entropy(output.logits, labels, self.class_weights, self.ignore_index)
        if output.aux is None:
            return main
        auxiliary = cross_entropy(output.aux, labels, self.class_weights, self.ignore_index)
        return (1.0 - self.aux_weight) * main + self.aux_weight * auxiliary

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, aux_weight={self.aux_weight}, memory={self.memory!r}"
