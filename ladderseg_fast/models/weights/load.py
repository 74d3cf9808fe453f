"""Weights of a file or of a download, put into an encoder."""

import os
from pathlib import Path

from torch import nn

from .download import IMAGENET, download_imagenet
from .files import read_state_dict
from .fit import fit
from .layout import encoder_names, layout_of


def load_encoder_weights(features: nn.Module, weights: str | os.PathLike[str], architecture: str) -> None:
    """Fills the parameters and buffers of `features` with pretrained weights, converted to its dtypes and devices.

    The file's names may be torchvision's or timm's, of a whole network or of an encoder alone, in the old style of the
    first DenseNet checkpoints (`denselayer1.norm.1.weight`), below `module.` (DataParallel) or `_orig_mod.`
    (torch.compile), and inside {"state_dict": ...} or {"model": ...}. Classifier and final norm are left out; an absent
    `num_batches_tracked` stays what it is in `features`. Everything else has to be there, and nothing more may be.

    A first convolution of other than three input channels gets weights of RGB images by timm's rule: one channel, the
    sum over RGB; n channels, those of R, G, B, R, ... times 3 / n.

    Args:
        features: a DenseNet or ResNet encoder with torchvision's child names, e.g. nn.DenseNetFeatures.
        weights: a file, .safetensors or what torch.save wrote (.pth, .pt; read with weights_only, so that no code in it
            runs); or "imagenet", which downloads with torchvision's code or else timm's.
        architecture: "densenet121", "densenet161", "densenet169", "densenet201" or "resnet50".

    Raises:
        TypeError: `weights` is neither a str nor a path.
        ValueError: an unknown architecture; a damaged file or one that is no checkpoint; weights that are missing, left
            over, or of another shape. `features` is then unchanged, as with every error.
        OSError: no such file, or it cannot be read; the download failed.
        MissingPackageError: "imagenet" without torchvision or timm, or with one that cannot be imported.
    """
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(f'weights must be a file\'s path or "{IMAGENET}", got {type(weights).__name__}')
    layout = layout_of(architecture)
    if weights == IMAGENET:
        source, state = f"{IMAGENET} weights", download_imagenet(architecture)
    else:
        source, state = os.fspath(weights), read_state_dict(Path(weights))
    try:
        state = fit(encoder_names(state, layout), features.state_dict(), architecture, layout.first_convolution)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    features.load_state_dict(state)  # converts to the dtypes and devices of `features`
