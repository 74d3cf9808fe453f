import pytest
from ladder_models import TINY, TINY_LAYERS

from ladderseg_fast.nn import BLOCK_LAYERS


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third backbone, with few layers, beside the two real ones."""
    monkeypatch.setitem(BLOCK_LAYERS, TINY, TINY_LAYERS)
