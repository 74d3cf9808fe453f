"""Prediction in tiles against prediction of the whole image."""

import numpy as np
import pytest
import torch
from support.ladder_models import make_model
from support.local_network import LocalNetwork
from support.window_files import picture

from ladderseg_fast import ops
from ladderseg_fast.data import IMAGENET_NORMALISATION as NORMALISATION
from ladderseg_fast.data import Normalisation
from ladderseg_fast.engine.evaluation import Views, label_image
from ladderseg_fast.engine.tiled import ArrayWindows, LabelArray, TileSize, predict_tiled, upsampled_rows
from ladderseg_fast.engine.tiled.scores import TiledScores
from ladderseg_fast.engine.tiled.upsampled_rows import UpsampledRows

#: A quarter of the overlap is at least the radius of LocalNetwork.
TILES = TileSize(160, 64)


def windows(image):
    return ArrayWindows(image, "an image")


@torch.no_grad()
def tiled_logits(model, image, tiles):
    """Blended logits [K, h, w] of the whole image."""
    scores = TiledScores(model.eval(), windows(image), NORMALISATION, tiles)
    rows = []
    for first, some in scores():
        assert first == sum(map(len, rows))
        rows.append(some.clone())
    assert sum(map(len, rows)) == scores.rows
    return torch.cat(rows).permute(2, 0, 1)


@torch.no_grad()
def whole_logits(model, image):
    return model.eval()(NORMALISATION(image)[None].to(next(model.parameters()).dtype)).logits[0]


def tiled_labels(model, image, tiles, on_tile=lambda done, total: None):
    labels = LabelArray(image.shape[:2])
    predict_tiled(model, windows(image), labels, NORMALISATION, tiles, on_tile)
    assert labels.rows == image.shape[0]
    return labels.labels


SIZES = [(96, 130), (160, 160), (161, 200), (256, 384), (301, 407), (160, 1000), (517, 64)]


@pytest.mark.parametrize("size", SIZES)
def test_scores_of_a_local_network_are_those_of_the_whole_image(size):
    image = picture(3, size=size)
    model = LocalNetwork()
    torch.testing.assert_close(tiled_logits(model, image, TILES), whole_logits(model, image), atol=1e-12, rtol=1e-12)


def test_less_overlap_than_context_changes_scores():
    """A quarter of the overlap must be the radius: with half of this overlap there is a difference near the seams."""
    assert TILES.overlap // 4 >= LocalNetwork.RADIUS > TILES.overlap // 8
    image, model = picture(3, size=(160, 400)), LocalNetwork()
    error = (tiled_logits(model, image, TileSize(160, 32)) - whole_logits(model, image)).abs().amax((0, 1))
    assert error.max() > 1e-4
    assert (error > 1e-12).sum() < 40  # of 100 columns


@pytest.mark.parametrize("size", SIZES)
def test_labels_of_a_local_network_are_those_of_the_whole_image(size):
    """In float64: a sum in another order may decide between equal scores."""
    image, model = picture(3, size=size), LocalNetwork()
    expected = ops.upsample_argmax(whole_logits(model, image)[None], size)[0].numpy()
    assert len(np.unique(expected)) > 3
    assert np.array_equal(tiled_labels(model, image, TILES), expected)


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_one_tile_is_the_whole_image(memory):
    """Bit for bit, also of a network that sees the whole image."""
    image = picture(3, size=(131, 180))
    model = make_model(memory=memory, dtype=torch.float32)
    assert torch.equal(tiled_logits(model, image, TileSize(192, 64)), whole_logits(model, image))
    network = LocalNetwork(whole=True, dtype=torch.float32)
    expected = label_image(network.eval(), image, NORMALISATION, Views(None)).numpy()
    assert np.array_equal(tiled_labels(network, image, TileSize(192, 64)), expected)


def test_ladders_differ_by_the_context_that_tiles_lack():
    """Most in the tiles' corners, less the larger the tiles."""
    image, model = picture(3, size=(128, 448)), make_model(dtype=torch.float32)
    expected = whole_logits(model, image)
    errors = [
        float((tiled_logits(model, image, TileSize(*sizes)) - expected).square().mean() / expected.var())
        for sizes in ((128, 64), (256, 128), (384, 192))
    ]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.1, errors


@pytest.mark.parametrize("axis", [0, 1])
def test_blend_is_smooth_where_tiles_disagree(axis):
    """Of a network that adds a tile's mean, no step between neighbours is larger than the seam's share of the jump."""
    image = np.zeros((160, 256, 3), np.uint8)
    image[:, 128:] = 255
    model = LocalNetwork(whole=True)
    model.layers[-1].weight.data.zero_()
    model.layers[-1].bias.data.zero_()
    scores = tiled_logits(model, np.ascontiguousarray(image.swapaxes(0, 1 - axis)), TILES)[1]
    line = scores[0] if axis == 1 else scores[:, 0]
    steps, jump = line.diff(), line[-1] - line[0]
    assert jump > 1
    assert steps.min() > -1e-12 and steps.max() < jump / 7.9  # the seam has eight scores


def test_tiles_have_few_shapes_and_are_counted():
    image, model, seen = picture(3, size=(350, 407)), LocalNetwork(), []
    tiled_labels(model, image, TILES, lambda done, total: seen.append((done, total)))
    tiles = model.shapes[1:]
    assert len(tiles) == 12 and seen == [(i, 12) for i in range(13)]
    assert set(tiles) == {(160, 160), (160, 151), (158, 160), (158, 151)}


class Stopped(Exception):
    pass


class Stopping(LabelArray):
    """Labels that stop the prediction after some strips; the last strip is lost."""

    strips = 0

    def synchronise(self):
        self.strips -= 1
        if self.strips < 0:
            raise Stopped
        self.safe = self.rows


@pytest.mark.parametrize("strips", [1, 2, 3])
@pytest.mark.parametrize("drop", [0, 1, 30])
def test_continued_labels_are_the_same(strips, drop):
    """`drop` of the rows that were there are gone, as those of an unfinished row of tiles in a TIFF."""
    image, model = picture(3, size=(420, 170)), LocalNetwork(dtype=torch.float32)
    expected = tiled_labels(model, image, TILES)
    labels = Stopping(image.shape[:2])
    labels.strips = strips
    with pytest.raises(Stopped):
        predict_tiled(model, windows(image), labels, NORMALISATION, TILES)
    resumed = LabelArray(image.shape[:2])
    resumed.rows = labels.safe - drop
    resumed.labels[: resumed.rows] = labels.labels[: resumed.rows]
    model.shapes.clear()
    predict_tiled(model, windows(image), resumed, NORMALISATION, TILES)
    assert np.array_equal(resumed.labels, expected)
    # Of 4 rows of 2 tiles those from the one above the first missing label on, or from another one with it.
    assert 2 * (4 - strips + 1) <= len(model.shapes) - 1 <= 2 * (4 - strips + (2 if drop else 1))


@pytest.mark.parametrize("batch", [2, 3, 9])
def test_batches_of_tiles_have_the_bits_of_single_ones(batch):
    """Tiles of a row that have one width, so the last one can be alone."""
    image, seen, model = picture(3, size=(131, 407)), [], make_model(dtype=torch.float32)
    expected = tiled_logits(model, image, TileSize(128, 64))
    scores = TiledScores(model, windows(image), NORMALISATION, TileSize(128, 64), lambda *at: seen.append(at), batch)
    assert torch.equal(torch.cat([some.clone() for _, some in scores()]).permute(2, 0, 1), expected)
    done = [count for count, _ in seen]
    assert done[-1] == seen[-1][1] and max(b - a for a, b in zip(done, done[1:])) == min(batch, 5)


def test_nothing_is_done_for_finished_labels():
    model, labels = LocalNetwork(), LabelArray((160, 160))
    labels.rows = 160
    predict_tiled(model, windows(picture(3, size=(160, 160))), labels, NORMALISATION, TILES)
    assert len(model.shapes) == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture(3, size=(31, 200)), "an image: image is 31x200, at least 32x32"),
        (picture(4, size=(200, 200)), "an image: RGB of 8 bits are expected, but the image has 4 channels of 8 bits"),
        (
            picture(3, np.uint16, size=(200, 200)),
            "an image: RGB of 8 bits are expected, but the image has 3 channels of 16 bits",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        tiled_labels(LocalNetwork(), image, TILES)


def test_grey_images_are_three_equal_channels():
    grey = picture(1, size=(160, 256))
    model = LocalNetwork()
    assert np.array_equal(tiled_labels(model, grey, TILES), tiled_labels(model, np.repeat(grey, 3, 2), TILES))


def test_bands_of_twelve_bits():
    """As of 16 bits, when their mean and deviation are as large a part of the values."""
    image, model, labels = picture(3, np.uint16, size=(160, 256)) >> 4, LocalNetwork(), []
    for bits, share in ((12, 1.0), (16, 4095 / 65535)):
        labels.append(LabelArray(image.shape[:2]))
        form = Normalisation((0.5 * share,) * 3, (0.25 * share,) * 3, bits)
        predict_tiled(model, windows(image), labels[-1], form, TILES)
    assert (labels[0].labels == labels[1].labels).mean() > 0.999
    form = Normalisation((0.5,) * 3, (0.25,) * 3, 12)
    with pytest.raises(ValueError, match="3 bands of 12 bits are expected, but the image has a value of 4096"):
        predict_tiled(model, windows(image + 1), LabelArray((160, 256)), form, TILES)


def test_an_image_that_ends_early_is_reported_and_the_model_stays_as_it_was():
    image = windows(picture(3, size=(400, 160)))
    read = image.read

    def cut(top, bottom, left, right):
        if bottom > 300:
            raise OSError("an image: truncated")
        return read(top, bottom, left, right)

    image.read = cut
    model, labels = LocalNetwork().train(), LabelArray((400, 160))
    with pytest.raises(OSError, match="an image: truncated"):
        predict_tiled(model, image, labels, NORMALISATION, TILES)
    assert 0 < labels.rows < 300
    assert model.training and model.layers[3].training


def test_a_large_tile_takes_no_more_than_the_image():
    image, model = picture(3, size=(64, 96)), LocalNetwork()
    expected = tiled_labels(model, image, TileSize(96, 32))
    assert np.array_equal(tiled_labels(model, image, TileSize(2**40, 0)), expected)


class Announced:
    """An image whose header announces more than any memory holds, and whose file ends at once."""

    name, size, channels, dtype = "an image", (2**31 - 1, 2**31 - 1), 3, np.dtype(np.uint8)

    def read(self, top, bottom, left, right):
        raise OSError("an image: truncated")


def test_an_announced_size_takes_no_memory():
    with pytest.raises(OSError, match="truncated"):
        predict_tiled(LocalNetwork(), Announced(), LabelArray((0, 0)), NORMALISATION, TileSize(2**20, 64))


@pytest.mark.parametrize("chunk", [1, 2**21])
@pytest.mark.parametrize("size", [(64, 96), (67, 101), (33, 40)])
def test_label_rows_are_those_of_all_rows_together(monkeypatch, chunk, size):
    monkeypatch.setattr(upsampled_rows, "_CHUNK_VALUES", chunk)
    height, width = (-(-side // 4) for side in size)
    scores = torch.randn(height, width, 5, generator=torch.Generator().manual_seed(0))
    expected = ops.upsample_argmax(scores.permute(2, 0, 1)[None], size)[0].numpy()
    for edges in ([0, height], [0, 3, height], [0, 1, 2, 5, 6, height]):
        made = UpsampledRows(size, height)
        rows = [rows.labels for a, b in zip(edges, edges[1:]) for rows in made.add(a, scores[a:b])]
        assert np.array_equal(np.concatenate(rows), expected)
    for start in range(1, size[0], 7):
        made = UpsampledRows(size, height, start)
        needed = made.needs(start)
        rows = [rows.labels for rows in made.add(needed, scores[needed:])]
        assert np.array_equal(np.concatenate(rows), expected[start:])
