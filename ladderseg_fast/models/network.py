"""The modules of a design, and their forward in plain PyTorch."""

from torch import Tensor, nn

from ..nn import Features, Head, TransitionUp
from .design import CONTEXTS, Design
from .output import LadderOutput


class Network(nn.Module):
    """An encoder, a context layer on its last feature, transitions-up along skip connections, one head or two.

    Args:
        design: the choices of these parts.
        num_classes: K, 1 to 256.
        in_channels: channels of the images.

    Attributes:
        deepest: name of the encoder's feature that the context layer reads.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, design: Design, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}")
        if not 1 <= num_classes <= 256:
            raise ValueError(f"num_classes must be between 1 and 256, got {num_classes}")
        self.design = design
        self.num_classes = num_classes
        features = design.encoder.build(in_channels, design.split_blocks, design.dilated)
        self.features: Features = features
        names, width = list(features.channels), design.width
        self.deepest = names[-1]
        self.context = CONTEXTS[design.context](features.channels[self.deepest], out_channels=width)
        self._skips = tuple(design.skips(names))
        for i, name in enumerate(self._skips, start=1):
            self.add_module(f"up{i}", TransitionUp(width, features.channels[name], width, width))
        self.head = Head(width, num_classes)
        self.aux_head = Head(width, num_classes) if design.auxiliary else None
        for module in (child for part in self.children() if part is not features for child in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.features.in_channels

    @property
    def min_size(self) -> int:
        """Smallest image side: with a smaller one the context layer would see no pixel."""
        return self.features.stride

    @property
    def transitions_up(self) -> dict[str, TransitionUp]:
        """Transitions-up by the names of the skip connections that they read, in the order in which they run."""
        return {name: getattr(self, f"up{i}") for i, name in enumerate(self._skips, start=1)}

    def forward(self, images: Tensor) -> LadderOutput:
        """Class scores of `images` [N, in_channels, H, W]."""
        maps = self.features(images)
        context = x = self.context(maps[self.deepest])
        for name, up in self.transitions_up.items():
            x = up(x, maps[name])
        return LadderOutput(self.head(x), None if self.aux_head is None else self.aux_head(context))
