"""Scores of an image in overlapping tiles, blended, a row of tiles at a time."""

from collections.abc import Callable, Generator
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ...data import RGB, Normalisation
from ...models import SegmentationModel
from .blend import Band, fade
from .grid import Axis, TileSize
from .read_ahead import ReadAhead
from .windows import Windows


class TiledScores:
    """Logits of `image`, computed tile by tile.

    The model must be in evaluation mode.

    Args:
        image: [H, W, C], of the form of `normalisation`; one channel stands for RGB's three.
        on_tile: called with the number of tiles done, and of all: before the first and after each batch.
        batch: greatest number of neighbouring tiles of one size that the network computes at once.

    Attributes:
        rows: logits along the height of the image.

    Raises:
        ValueError: the tiles do not fit the network, the image is smaller than the network sees, or has another form; a
            value too large for that is found when it is read.
    """

    def __init__(
        self,
        model: SegmentationModel,
        image: Windows,
        normalisation: Normalisation,
        tiles: TileSize,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
        batch: int = 1,
    ) -> None:
        tiles.check(model.min_size)
        _check_image(image, normalisation, model.min_size)
        self._model, self._image, self._normalisation = model, image, normalisation
        self._on_tile, self._batch = on_tile, batch
        self._like = next(model.parameters())
        self._down, self._across = (Axis.cover(length, tiles, model.min_size) for length in image.size)
        #: Pixels of the image for one logit, along either side.
        self._pitch = pitch = self._measured_pitch()
        self._tile_rows = -(-min(tiles.tile, image.size[0]) // pitch)
        self._seams_down = self._down.seams(tiles.overlap, pitch)
        self._seams_across = self._across.seams(tiles.overlap, pitch)
        self.rows = self._down.scores(pitch)

    def __call__(self, needed: int = 0) -> Generator[tuple[int, Tensor], None, None]:
        """Blended logits from a row not below `needed` on, with no tiles more than these take.

        Yields:
            The first row, and [rows, w, K], in which they follow each other until the last row of all. The memory is
            used again for the next.
        """
        # The last row of tiles that has the needed logits without those of the row above.
        start = max([0, *(i for i, seam in enumerate(self._seams_down, start=1) if seam.last <= needed)])
        windows = ((*rows, *columns) for rows in self._down.spans[start:] for columns in self._across.spans)
        band = Band(self._tile_rows, self._across.scores(self._pitch), self._seams_across)
        above: Tensor | None = None
        self._count(start, 0)
        with ReadAhead(self._pixels, windows, self._batch) as ahead:
            for i in range(start, len(self._down.spans)):
                self._fill(band, i, ahead)
                top, bottom = self._down.spans[i]
                offset, scores = top // self._pitch, band.rows(-(-(bottom - top) // self._pitch))
                first, last = 0, len(scores)
                if i > 0:
                    seam = self._seams_down[i - 1]
                    first = seam.last - offset
                    if above is not None:
                        blended = scores[seam.first - offset : first]
                        blended.copy_(fade(above, blended, axis=0))
                        first = seam.first - offset
                if i < len(self._seams_down):
                    seam = self._seams_down[i]
                    last = seam.first - offset
                    above = scores[last : seam.last - offset].clone()
                yield first + offset, scores[first:last]

    def _fill(self, band: Band, row: int, ahead: "ReadAhead[tuple[int, int, int, int], Tensor]") -> None:
        """Computes the logits of a row of tiles."""
        across, done = self._across.spans, 0
        for batch in self._batches():
            tiles = torch.cat([ahead.next() for _ in range(batch)])
            logits = self._model(tiles.to(self._like.device, self._like.dtype)).logits
            for scores in logits.split(1):
                band.add(done, across[done][0] // self._pitch, scores)
                done += 1
            self._count(row, done)

    def _batches(self) -> list[int]:
        """Numbers of neighbouring tiles of one width, each at most the batch."""
        widths = [sum(1 for _ in tiles) for _, tiles in groupby(right - left for left, right in self._across.spans)]
        return [min(self._batch, count - first) for count in widths for first in range(0, count, self._batch)]

    def _count(self, row: int, column: int) -> None:
        across = len(self._across.spans)
        self._on_tile(row * across + column, len(self._down.spans) * across)

    def _measured_pitch(self) -> int:
        least = self._model.min_size
        logits = self._model(self._like.new_zeros((1, self._model.in_channels, least, least))).logits
        return least // logits.shape[2]

    def _pixels(self, window: tuple[int, int, int, int]) -> Tensor:
        """Normalised pixels [1, C, h, w] of a window."""
        pixels = self._image.read(*window)
        form = self._normalisation.form
        if form.bits % 8 and pixels.max() > form.most:  # else no value of this type is too large
            raise ValueError(f"{self._image.name}: {form} are expected, but the image has a value of {pixels.max()}")
        if pixels.shape[2] != form.bands:
            pixels = np.repeat(pixels, form.bands, axis=2)
        return self._normalisation(pixels)[None]


def _check_image(image: Windows, normalisation: Normalisation, least: int) -> None:
    if min(image.size) < least:
        height, width = image.size
        raise ValueError(f"{image.name}: image is {height}x{width}, at least {least}x{least} (HxW) is needed")
    form = normalisation.form
    grey = image.channels == 1 and form == RGB
    if (image.channels != form.bands and not grey) or image.dtype != form.dtype:
        channels = "1 channel" if image.channels == 1 else f"{image.channels} channels"
        bits = image.dtype.itemsize * 8
        raise ValueError(f"{image.name}: {form} are expected, but the image has {channels} of {bits} bits")
