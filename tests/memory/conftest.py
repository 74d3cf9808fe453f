import pytest
from ladder_models import TINY, TINY_SHAPE

from ladderseg_fast.nn import DENSENETS


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third backbone, with few layers, beside the two real ones."""
    monkeypatch.setitem(DENSENETS, TINY, TINY_SHAPE)
