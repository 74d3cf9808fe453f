"""A model for tests of training: small, and known by a name like the others."""

from ladder_models import TINY, TINY_SHAPE

from ladderseg_fast.models import LadderDenseNet
from ladderseg_fast.models.registry import CONFIGURATIONS, Configuration
from ladderseg_fast.nn import DENSENETS

TINY_CONFIGURATION = Configuration("tiny", LadderDenseNet, {"backbone": TINY})


def register_tiny_model() -> None:
    """Makes create_model(TINY) work in this process."""
    DENSENETS[TINY] = TINY_SHAPE
    CONFIGURATIONS[TINY] = TINY_CONFIGURATION
