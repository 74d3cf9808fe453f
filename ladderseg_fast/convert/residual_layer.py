"""Layers of residual units: sequences of torchvision's or timm's units."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from ..lean.examination import Examination
from .lean_module import LeanModule, Replacement
from .lean_part import LeanPart
from .sequential import has_hooks, joined
from .stage_chain import StageChain


class LeanResidualLayer(LeanPart, nn.Sequential):
    """A sequence of residual units, such as a layer of a ResNet.

    Attributes:
        lean_units: classes of units, and the names of their modules that must be identities, or None.
    """

    lean_replaces = nn.Sequential
    lean_description = "residual layer"
    lean_rectified = True
    lean_units: ClassVar[dict[type[nn.Module], tuple[str, ...]]] = {}

    @classmethod
    def lean_decide(cls, path: str, module: nn.Module, parts: Any) -> Replacement | None:
        units = [isinstance(child, tuple(cls.lean_units)) for child in module.children()]
        return super().lean_decide(path, module, parts) if units and all(units) else None

    @classmethod
    def lean_unfit(cls, model: nn.Module, parts: Mapping[nn.Module, type[LeanModule]]) -> dict[str, str]:
        """Reasons for layers of ResNets that follow another activation than ReLU."""
        unfit = {}
        for path, module in model.named_modules():
            layers = [name for name in ("layer1", "layer2", "layer3", "layer4") if name in module._modules]
            for before, name in zip((None, *layers), layers):
                layer = module.get_submodule(name)
                if parts.get(layer) is not cls:
                    continue
                rectified = _has_rectified_stem(module) if before is None else cls._ends_in_relu(module, before)
                if not rectified:
                    where = before or "the stem"
                    unfit[joined(path, name)] = f"reads what {where} gives, which may be negative"
        return unfit

    @classmethod
    def _ends_in_relu(cls, network: nn.Module, name: str) -> bool:
        last = next(reversed([*network.get_submodule(name).children()]), None)
        if type(last) not in cls.lean_units:
            return False
        return _is_relu(next(getattr(last, each) for each in ("act3", "act2", "relu") if hasattr(last, each)))

    @classmethod
    def lean_look(cls, look: Examination, path: str, module: Any, called: bool) -> tuple[int, int]:
        channels = look.residual_layer(path, module, cls.lean_kind(module), called)
        for name, unit in module.named_children():
            absent = next(names for kind, names in cls.lean_units.items() if isinstance(unit, kind))
            for each in absent:
                there = getattr(unit, each)
                if there is not None:
                    look.itself(f"{path}.{name}.{each}", there, nn.Identity)
        return channels

    @classmethod
    def lean_stages(cls, chain: StageChain, name: str, module: Any) -> None:
        units = list(module.children())
        last = max(number for number in (2, 3) if hasattr(units[-1], f"conv{number}"))
        chain.residual_layer(name, units, getattr(units[-1], f"conv{last}").out_channels)


def _has_rectified_stem(network: nn.Module) -> bool:
    """Whether ReLU and max pooling come before the first layer, where all known networks have them."""
    relu = network._modules.get("relu", network._modules.get("act1"))
    pooling = network._modules.get("maxpool")
    return _is_relu(relu) and type(pooling) is nn.MaxPool2d and not has_hooks(pooling)


def _is_relu(module: nn.Module | None) -> bool:
    return type(module) is nn.ReLU and not has_hooks(module)
