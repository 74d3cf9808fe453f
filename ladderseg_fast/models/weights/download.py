"""ImageNet weights by the download code of torchvision or timm.

Both offer several sets of weights for some networks. We take torchvision's first set (IMAGENET1K_V1; `tv_in1k` in
timm), so that the weights do not depend on the installed package.
"""

import importlib
import importlib.util
from types import ModuleType

from torch import Tensor

#: The value of `weights` that asks for a download.
IMAGENET = "imagenet"


class MissingPackageError(ImportError):
    """A package that the call needs is not installed, or cannot be imported."""


def download_imagenet(architecture: str) -> dict[str, Tensor]:
    """The state_dict of torchvision's `architecture` trained on ImageNet, from the package's cache if it is there.

    Raises:
        MissingPackageError: neither torchvision nor timm is installed, or the first one that is cannot be imported.
        OSError: the download failed, or what it left cannot be read.
    """
    for package, download in (("torchvision", _torchvision), ("timm", _timm)):
        if importlib.util.find_spec(package) is not None:
            module = _import(package)
            try:
                return download(module, architecture)
            except Exception as error:  # from urllib, the hub or torch.load: neither package documents which
                raise OSError(
                    f"{package} could not get the ImageNet weights of {architecture} "
                    f"({type(error).__name__}: {_first_line(error)}); without a network, give weights= a file of them"
                ) from error
    raise MissingPackageError(
        f'weights="{IMAGENET}" downloads with the code of torchvision or timm, and neither is installed: '
        "pip install torchvision, or give weights= a file"
    )


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except Exception as error:  # a torchvision built for another torch raises RuntimeError, among others
        raise MissingPackageError(
            f'weights="{IMAGENET}" downloads with the code of {package}, which is installed but cannot be imported '
            f"({type(error).__name__}: {_first_line(error)}): install one that fits this torch, or give weights= a file"
        ) from error


def _torchvision(torchvision: ModuleType, architecture: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1
    # torch.hub passes weights_only and map_location on to torch.load.
    return weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")


def _timm(timm: ModuleType, architecture: str) -> dict[str, Tensor]:
    return timm.create_model(f"{architecture}.tv_in1k", pretrained=True).state_dict()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").split("\n")[0]
