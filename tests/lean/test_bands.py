"""Predictions whose first dense block runs in bands of rows are those of whole maps.

Up to rounding: how the 3x3 convolutions sum depends on the size of the map.
"""

import pytest
import torch
from support.ladder_models import make_images, make_model
from support.lean_equals_plain import batch_norms
from torch import Tensor

from ladderseg_fast import LadderDenseNet, create_model
from ladderseg_fast.lean import Workspace, bands
from ladderseg_fast.nn import DENSENETS, DenseNetShape
from ladderseg_fast.ops.strips import Strip


class Bands:
    """The bands of each pass from now on, and bands of at most `rows` rows for maps of `width` pixels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[list[Strip]] = []
        self._patch = monkeypatch
        run = bands._Bands.run

        def recorded(work: bands._Bands, strips: list[Strip]) -> None:
            self.passes.append(strips)
            run(work, strips)

        monkeypatch.setattr(bands._Bands, "run", recorded)

    def limit(self, size: int, least_rows: int = 1) -> None:
        self._patch.setattr(bands, "_BAND_BYTES", size)
        self._patch.setattr(bands, "_LEAST_ROWS", least_rows)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Bands:
    return Bands(monkeypatch)


def logits(model: LadderDenseNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.lean_scores(images, workspace=Workspace())[0]


def expect_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def map_bytes(model: LadderDenseNet, pixels: int) -> int:
    """Bytes of so many pixels of the first dense block's map in float64."""
    return model.features.channels["db1"] * 8 * pixels


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (130, 67), (256, 64)], ids=str)
@pytest.mark.parametrize("rows", [8, 16])
def test_strips_of_rows(limited: Bands, size: tuple[int, int], rows: int) -> None:
    """Strips of one image, with sizes that are multiples of nothing."""
    model, images = make_model().eval(), make_images(2, *size)
    expected = logits(model, images)
    assert not limited.passes
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    limited.limit(map_bytes(model, width), least_rows=rows)
    expect_close(logits(model, images), expected)
    (strips,) = limited.passes
    assert len(strips) == 2 * -(-height // rows)
    assert all(strip.rows.start % 4 == strip.outer.start % 4 == 0 for strip in strips)


def test_whole_images(limited: Bands) -> None:
    model, images = make_model().eval(), make_images(5, 64, 96)
    expected = logits(model, images)
    limited.limit(map_bytes(model, 2 * 16 * 24))
    expect_close(logits(model, images), expected)
    (strips,) = limited.passes
    assert [(strip.images, strip.outer) for strip in strips] == [
        (slice(first, min(first + 2, 5)), slice(0, 16)) for first in (0, 2, 4)
    ]


def test_a_larger_halo(limited: Bands) -> None:
    """Six layers, whose 3x3 convolutions reach six rows far."""
    torch.manual_seed(0)
    model, images = create_model("ladder_densenet121", 4).double().eval(), make_images(1, 192, 64)
    expected = logits(model, images)
    limited.limit(1)
    expect_close(logits(model, images), expected)
    (strips,) = limited.passes
    assert len(strips) == 12 and strips[5].outer == slice(12, 32)


def test_a_halo_that_is_no_multiple(limited: Bands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers, and two rows of the stem: one row less would be rounded to half of that."""
    monkeypatch.setitem(DENSENETS, "three", DenseNetShape((3, 1, 1, 2)))
    model, images = make_model("three").eval(), make_images(1, 192, 64)
    expected = logits(model, images)
    limited.limit(1)
    expect_close(logits(model, images), expected)
    (strips,) = limited.passes
    assert strips[5].outer == slice(12, 32)


def test_what_does_not_suit(limited: Bands) -> None:
    """Passes with a backward, statistics of the batch, and a block that others read later."""
    limited.limit(1)
    images = make_images(2, 64, 64)
    model = make_model().eval()
    model(images).logits.sum().backward()
    logits(model.train(), images)
    model.eval()
    next(batch_norms(model.features.denseblock1)).train()
    logits(model, images)
    split = LadderDenseNet("densenet121", 5, split_blocks=(1,)).eval()
    logits(split, make_images(1, split.min_size, split.min_size, torch.float32))
    assert not limited.passes


def test_peak(limited: Bands) -> None:
    """The workspace is smaller by a third of the map at least if it goes through in two bands."""
    model, images = create_model("ladder_densenet121", 4).eval(), make_images(1, 512, 256, torch.float32)
    whole, halves, size = Workspace(), Workspace(), map_bytes(model, 128 * 64) // 2
    with torch.no_grad():
        model.lean_scores(images, workspace=whole)
        limited.limit(size // 2)
        model.lean_scores(images, workspace=halves)
    (strips,) = limited.passes
    assert len(strips) == 2
    assert halves._memory.most_in_use < whole._memory.most_in_use - 0.3 * size
