"""Dense blocks and transitions that have the names of torchvision's, which others have taken over."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from ..lean.examination import Examination, UnsupportedModuleError
from .lean_part import LeanPart
from .stage_chain import StageChain


class LeanDenseBlock(LeanPart):
    """A block of layers BN - ReLU - conv 1x1 - BN - ReLU - conv 3x3, each of class `layer_class`.

    Layers that recompute their bottlenecks (memory_efficient, gradient checkpointing) need not do so any more: a lean
    step computes what they would, and updates running statistics once.
    """

    lean_description = "dense block"
    layer_class: ClassVar[type[nn.Module]]

    @property
    def layers(self) -> Sequence[Any]:
        """Dense layers in the order of the forward pass."""
        return list(self.children())

    @classmethod
    def lean_look(cls, look: Examination, path: str, module: nn.Module, called: bool) -> tuple[int, int]:
        look.itself(path, module, cls.lean_kind(module), called=called)
        first, channels = 0, None
        for name, layer in module.named_children():
            where = f"{path}.{name}"
            reads, added = look.bottleneck(where, layer, cls.layer_class)
            if getattr(layer, "drop_rate", 0.0) > 0:
                raise UnsupportedModuleError(where, f"has drop_rate={layer.drop_rate}")
            if channels is None:
                first = channels = reads
            look.same(where, "reads", reads, channels, "are there")
            channels += added
        if channels is None:
            raise UnsupportedModuleError(path, "has no layers")
        return first, channels

    @classmethod
    def lean_stages(cls, chain: StageChain, name: str, module: Any) -> None:
        last = module.layers[-1]
        chain.dense_block(name, module, last.norm1.num_features + last.conv2.out_channels)


class LeanTransition(LeanPart):
    """BN - ReLU - conv 1x1 - 2x2 average pooling."""

    lean_description = "transition"

    @classmethod
    def lean_look(cls, look: Examination, path: str, module: Any, called: bool) -> tuple[int, int]:
        look.itself(path, module, cls.lean_kind(module), called=called)
        channels = look.projection(path, module)
        look.average_pool(f"{path}.pool", module.pool)
        return channels

    @classmethod
    def lean_stages(cls, chain: StageChain, name: str, module: nn.Module) -> None:
        chain.transition(name, module)
