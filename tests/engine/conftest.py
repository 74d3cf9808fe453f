"""A small model's checkpoint."""

import pytest
import torch
from support.tiny_training import register_tiny_model

from ladderseg_fast import LadderDenseNet
from ladderseg_fast.data import IMAGENET_NORMALISATION, LabelSet
from ladderseg_fast.engine import Checkpoint


@pytest.fixture(scope="package", autouse=True)
def tiny_model() -> None:
    """A model with few layers beside the real ones."""
    register_tiny_model()


@pytest.fixture(scope="package")
def checkpoint() -> Checkpoint:
    """densenet121 with three classes and random weights."""
    torch.manual_seed(3)
    return Checkpoint(
        step=12,
        model="ladder_densenet121",
        memory="plain",
        label_set=LabelSet(("sky", "road", "tree"), ((70, 130, 180), (128, 64, 128), (107, 142, 35))),
        size=(64, 96),
        normalisation=IMAGENET_NORMALISATION,
        config={
            "training": {"seed": 3, "learning_rate": 5e-4, "steps": 20, "epochs": None},
            "data": {"size": [64, 96]},
        },
        state=LadderDenseNet("densenet121", 3, memory="plain").state_dict(),
    )
