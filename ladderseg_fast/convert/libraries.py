"""The libraries whose modules can be converted; each is imported only if a model has a module of it."""

from torch import nn

from . import sequential as sequential  # registers sequences of parts of all libraries


def load_families(model: nn.Module) -> None:
    """Imports what converts the modules of `model`: registers the classes that replace theirs."""
    homes = {base.__module__ for module in model.modules() for base in type(module).__mro__}
    if "torchvision.models.densenet" in homes:
        from . import torchvision_densenet as torchvision_densenet
    if "timm.models.densenet" in homes:
        from . import timm_densenet as timm_densenet
    if "segmentation_models_pytorch.encoders.densenet" in homes:
        from . import smp_densenet as smp_densenet
    if "torchvision.models.resnet" in homes:
        from . import torchvision_resnet as torchvision_resnet
    if "timm.models.resnet" in homes:
        from . import timm_resnet as timm_resnet
