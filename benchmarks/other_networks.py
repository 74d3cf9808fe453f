"""Networks of other libraries that convert.py measures, each with the checkpointing that its library offers.

torchvision's DenseNets have memory_efficient=True, which recomputes concatenation - BN - ReLU - conv 1x1 of each layer;
segmentation_models_pytorch takes its DenseNets from torchvision, so theirs have it too. timm's models have
set_grad_checkpointing. ResNets of torchvision have nothing of the kind: torch.utils.checkpoint recomputes each residual
unit, which is what timm does for its own ResNets.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

#: Number of classes of every network here.
CLASSES = 19


@dataclass(frozen=True)
class OtherNetwork:
    """A network of another library.

    checkpoint: turns the library's checkpointing on, in place.
    title: the call that makes it.
    checkpointing: what `checkpoint` turns on, in words.
    dense: whether it predicts a class for every pixel; otherwise one for each image.
    """

    title: str
    build: Callable[[], nn.Module]
    checkpoint: Callable[[nn.Module], None]
    checkpointing: str
    dense: bool


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, name)(num_classes=CLASSES)

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=CLASSES)

    return build


def _unet(encoder: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import segmentation_models_pytorch as smp

        return smp.Unet(encoder, encoder_weights=None, classes=CLASSES)

    return build


def _set_memory_efficient(model: nn.Module) -> None:
    from torchvision.models.densenet import _DenseLayer

    for module in model.modules():
        if isinstance(module, _DenseLayer):
            module.memory_efficient = True


def _set_grad_checkpointing(model: nn.Module) -> None:
    model.set_grad_checkpointing()


def _recompute_residual_units(model: nn.Module) -> None:
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for module in model.modules():
        if isinstance(module, (BasicBlock, Bottleneck)):
            module.forward = _recomputed(module.forward)


def _recomputed(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # The networks draw no random numbers, so their state need not be saved.
    return lambda x: checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)


_MEMORY_EFFICIENT = _set_memory_efficient, "memory_efficient=True"
_RESIDUAL_UNITS = _recompute_residual_units, "torch.utils.checkpoint of each residual unit"

NETWORKS = {
    "torchvision-densenet121": OtherNetwork(
        "torchvision's densenet121", _torchvision("densenet121"), *_MEMORY_EFFICIENT, dense=False
    ),
    "torchvision-resnet50": OtherNetwork(
        "torchvision's resnet50", _torchvision("resnet50"), *_RESIDUAL_UNITS, dense=False
    ),
    "timm-densenet201": OtherNetwork(
        "timm's densenet201", _timm("densenet201"), _set_grad_checkpointing, "set_grad_checkpointing", dense=False
    ),
    "smp-unet-densenet121": OtherNetwork(
        'smp.Unet("densenet121")', _unet("densenet121"), *_MEMORY_EFFICIENT, dense=True
    ),
    "smp-unet-resnet34": OtherNetwork('smp.Unet("resnet34")', _unet("resnet34"), *_RESIDUAL_UNITS, dense=True),
}
