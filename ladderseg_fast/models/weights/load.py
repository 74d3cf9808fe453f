"""Loading of weights from a file or a download into an encoder."""

import os
from pathlib import Path

from torch import nn

from .download import IMAGENET, download_imagenet
from .files import read_state_dict
from .fit import adaptation, fit
from .layout import encoder_names, layout_of


def load_encoder_weights(features: nn.Module, weights: str | os.PathLike[str], architecture: str) -> str | None:
    """Fills the parameters and buffers of `features` with pretrained weights, converted to its dtypes and devices.

    The file's names may be torchvision's or timm's, of a whole network or of an encoder alone, in the old style of the
    first DenseNet checkpoints (`denselayer1.norm.1.weight`), below `module.` (DataParallel) or `_orig_mod.`
    (torch.compile), and inside {"state_dict": ...} or {"model": ...}. Classifier and final norm are left out; an absent
    `num_batches_tracked` keeps its value in `features`. Everything else must be present, and nothing more may be.

    If the first convolution does not have three input channels, its weights follow from those for RGB images by timm's
    rule: for one channel, the sum over RGB; for n channels, the weights of R, G, B, R, ... times 3 / n. Weights for
    another number of channels than three must have those of `features`.

    Returns what was done to the first convolution's weights, in words; None if nothing.

    Args:
        features: a DenseNet or ResNet encoder with torchvision's child names, e.g. nn.DenseNetFeatures.
        weights: a .safetensors file, a file that torch.save wrote (.pth, .pt; read with weights_only, so that no code
            in it runs), or "imagenet", which downloads with torchvision's code or else timm's.
        architecture: an architecture of one of the families of encoders, such as "densenet121" or "resnet50".

    Raises:
        TypeError: `weights` is neither a str nor a path.
        ValueError: an unknown architecture; a file that is damaged or not a checkpoint; weights that are missing, left
            over, or of another shape. `features` is then unchanged, as with every error.
        OSError: the file does not exist or cannot be read; the download failed.
        MissingPackageError: "imagenet" without torchvision or timm, or with one that cannot be imported.
    """
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(f'weights must be a file\'s path or "{IMAGENET}", got {type(weights).__name__}')
    layout = layout_of(architecture)
    if weights == IMAGENET:
        source, state = f"{IMAGENET} weights", download_imagenet(architecture)
    else:
        source, state = os.fspath(weights), read_state_dict(Path(weights))
    first, target = layout.first_convolution, features.state_dict()
    try:
        named = encoder_names(state, layout)
        state = fit(named, target, architecture, first)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    features.load_state_dict(state)  # converts to the dtypes and devices of `features`
    return adaptation(named[first], target[first].shape[1])
