"""LadderDenseNet: the paper's Figure 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import lean, ops
from ..nn import BLOCK_LAYERS, Context, DenseNetFeatures, Head, TransitionUp

#: Smallest image side: below it the context layer, at 1/64, would see no pixel.
MIN_IMAGE_SIZE = 64

MEMORY_MODES = ("lean", "plain")


class LadderOutput(NamedTuple):
    """Class scores of one forward pass."""

    logits: Tensor
    """[N, K, ceil(ceil(H/2)/2), ceil(ceil(W/2)/2)]: scores of the last transition-up."""
    aux: Tensor
    """[N, K, about H/64, about W/64]: scores of the context output, for the auxiliary loss."""


class LadderDenseNet(nn.Module):
    """Ladder-style DenseNet for semantic segmentation (Kreso, Krapac, Segvic, ICCV workshops 2017, Figure 1).

    A DenseNet whose fourth block is split in two halves by an average pooling, a context layer at 1/64 of
    the image's resolution, and four transitions up of 128 channels with skip connections from DB4a, DB3,
    DB2 and DB1.

    Args:
        backbone: "densenet121" or "densenet169".
        num_classes: K, 1 to 256.
        memory: "lean" runs the network as one autograd function that keeps only what backward cannot
            recompute cheaply; "plain" runs ordinary PyTorch modules. Both compute the same and share one
            state_dict. Inner modules run their hooks with "plain" only; torch.autocast has an effect on the CPU with
            "plain" only, on CUDA with both.

    Attributes:
        memory_plan: lean.MemoryPlan, how a lean step spends memory, or None for what is best on the images' device; may
            be replaced at any time.

    Raises:
        ValueError: an unknown backbone or memory mode, or num_classes out of range.
    """

    def __init__(self, backbone: str = "densenet121", num_classes: int = 19, memory: str = "lean") -> None:
        super().__init__()
        if backbone not in BLOCK_LAYERS:
            raise ValueError(f"backbone must be one of {sorted(BLOCK_LAYERS)}, got {backbone!r}")
        if not 1 <= num_classes <= 256:
            raise ValueError(f"num_classes must be between 1 and 256, got {num_classes}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.memory = memory
        self.memory_plan: lean.MemoryPlan | None = None
        self._workspace = lean.Workspace()
        self.features = features = DenseNetFeatures(BLOCK_LAYERS[backbone])
        block4 = features.denseblock4
        #: Layers [0, split) of the fourth block are DB4a, the others DB4b.
        self.split = len(block4.layers) // 2
        self.split_pool = nn.AvgPool2d(2)
        width = 128
        self.context = Context(block4.out_channels, out_channels=width)
        split_channels = block4.in_channels + self.split * block4.growth_rate
        self.up1 = TransitionUp(width, split_channels, width, width)
        self.up2 = TransitionUp(width, features.denseblock3.out_channels, width, width)
        self.up3 = TransitionUp(width, features.denseblock2.out_channels, width, width)
        self.up4 = TransitionUp(width, features.denseblock1.out_channels, width, width)
        self.head = Head(width, num_classes)
        self.aux_head = Head(width, num_classes)
        for module in (self.context, self.up1, self.up2, self.up3, self.up4, self.head, self.aux_head):
            for child in module.modules():
                if isinstance(child, nn.Conv2d):
                    nn.init.kaiming_normal_(child.weight)
                    if child.bias is not None:
                        nn.init.zeros_(child.bias)

    @property
    def memory(self) -> str:
        """"lean" or "plain"; may be changed at any time."""
        return self._memory

    @memory.setter
    def memory(self, mode: str) -> None:
        if mode not in MEMORY_MODES:
            raise ValueError(f"memory must be one of {MEMORY_MODES}, got {mode!r}")
        self._memory = mode

    def forward(self, images: Tensor) -> LadderOutput:
        """Class scores at 1/4 and 1/64 of the resolution of `images` [N, 3, H, W], H and W at least 64.

        Raises:
            ValueError: `images` has another shape; or one value per channel in training mode, as in nn.BatchNorm2d.
            TypeError: `images` is not of the parameters' dtype.
        """
        self._check_images(images)
        if self.memory == "lean":
            logits, aux = lean.ladder_densenet(self, images, self.memory_plan, self._workspace)
            return LadderOutput(logits, aux)
        return self._forward_plain(images)

    def _forward_plain(self, images: Tensor) -> LadderOutput:
        features = self.features
        db1 = features.denseblock1(features.stem(images))
        db2 = features.denseblock2(features.transition1(db1))
        db3 = features.denseblock3(features.transition2(db2))
        db4a = features.denseblock4(features.transition3(db3), stop=self.split)
        db4b = features.denseblock4(self.split_pool(db4a), start=self.split)
        context = self.context(db4b)
        up = self.up1(context, db4a)
        up = self.up2(up, db3)
        up = self.up3(up, db2)
        up = self.up4(up, db1)
        return LadderOutput(self.head(up), self.aux_head(context))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Class labels [N, H, W] uint8 of `images` [N, 3, H, W], at full resolution.

        BatchNorm uses its running statistics and leaves them alone, whatever mode the model is in.
        """
        with _evaluating(self):
            logits = self(images).logits
        size = images.shape[2:]
        if self.memory == "lean":
            return ops.upsample_argmax(logits, size)
        return ops.reference.upsample_argmax(logits, size)

    def _check_images(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [N, 3, H, W], got shape {tuple(images.shape)}")
        if min(images.shape[2:]) < MIN_IMAGE_SIZE:
            least = f"{MIN_IMAGE_SIZE} x {MIN_IMAGE_SIZE}"
            raise ValueError(f"images must be at least {least}, got {tuple(images.shape[2:])}")
        weight = self.features.conv0.weight
        if images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
            raise TypeError(f"images must be {weight.dtype} like the model's parameters, got {images.dtype}")
        if images.device != weight.device:
            raise ValueError(f"images must be on {weight.device} like the model's parameters, got {images.device}")

    def release_workspace(self) -> None:
        """Give the buffers that lean steps reuse back to the allocator; the next step makes new ones."""
        self._workspace.release()

    def extra_repr(self) -> str:
        return f"{self.backbone!r}, num_classes={self.num_classes}, memory={self.memory!r}"


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; what was in training mode goes back to it afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
