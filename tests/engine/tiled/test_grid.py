"""Places of tiles and the seams between them."""

import pytest
import torch

from ladderseg_fast.engine.tiled import TileSize
from ladderseg_fast.engine.tiled.blend import fade
from ladderseg_fast.engine.tiled.grid import Axis

SIZES = [TileSize(128, 32), TileSize(128, 0), TileSize(64, 32), TileSize(256, 192)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_the_axis_and_overlap_enough(size):
    for length in range(32, 1200, 13):
        spans = Axis.cover(length, size, 32).spans
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(start % 32 == 0 for start, _ in spans)
        assert all(stop - start == size.tile for start, stop in spans[:-1])
        assert len(spans) == 1 or size.tile - 32 < spans[-1][1] - spans[-1][0] <= size.tile
        for (_, end), (start, _) in zip(spans, spans[1:]):
            assert end - start >= size.overlap


@pytest.mark.parametrize("length", [256, 300, 1000])
def test_no_more_tiles_than_needed(length):
    count = len(Axis.cover(length, TileSize(128, 32), 32).spans)
    assert 128 + (count - 2) * 96 < length <= 128 + (count - 1) * 96 + 31


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pitch", [4, 32])
def test_seams_leave_context_and_do_not_touch(size, pitch):
    """A tile counts only where it has a quarter of the overlap around; between two seams some scores are its own."""
    for length in range(32, 1200, 13):
        axis = Axis.cover(length, size, 32)
        seams = axis.seams(size.overlap, pitch)
        assert len(seams) == len(axis.spans) - 1
        for seam, (_, end), (start, _) in zip(seams, axis.spans, axis.spans[1:]):
            assert (seam.first + 1) * pitch - start > size.overlap / 4 - 1e-9
            assert end - (seam.last - 1) * pitch > size.overlap / 4 - 1e-9
        edges = [0, *(edge for seam in seams for edge in (seam.first, seam.last)), axis.scores(pitch)]
        assert all(a < b for a, b in zip(edges[::2], edges[1::2]))


def test_seam_is_half_as_wide_as_the_overlap():
    (seam,) = Axis.cover(192, TileSize(128, 64), 32).seams(64, 4)
    assert (seam.first, seam.last) == (20, 28)


def test_fade_weighs_linearly_and_keeps_what_is_equal():
    before, after = torch.zeros(1, 4, 2), torch.ones(1, 4, 2)
    assert fade(before, after, 1)[0, :, 0].tolist() == [0.125, 0.375, 0.625, 0.875]
    x = torch.randn(3, 5, 2)
    assert torch.equal(fade(x, x, 0), x)
    assert fade(x[:0], x[:0], 0).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (0, 0, "tile must be at least 1"),
        (128, 128, "overlap must be from 0 to less than the tile, 128 pixels, got 128"),
        (128, -1, "overlap must be"),
        (100, 32, "tile must be a multiple of 64, this network's stride, from 128, got 100; 128 is the nearest"),
        (64, 0, "tile must be a multiple of 64, .* got 64; 128"),
        (256, 32, "overlap must be a multiple of 64, .* got 32; 0 is the nearest"),
        (256, 250, "overlap must be a multiple of 64, .* got 250; 192 is the nearest"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tile, overlap, message):
    with pytest.raises(ValueError, match=message):
        TileSize(tile, overlap).check(64)
