"""Division of a batch into pieces of bounded size: groups of whole images, or strips of rows of one image."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Strip:
    """Some rows of some images.

    `rows` are the rows to compute. `outer` adds up to `halo` rows on either side, within the image. `inner` are `rows`
    counted from the start of `outer`.
    """

    images: slice
    rows: slice
    outer: slice

    @property
    def inner(self) -> slice:
        return slice(self.rows.start - self.outer.start, self.rows.stop - self.outer.start)


def strips(images: int, height: int, width: int, max_pixels: int, halo: int, multiple: int = 1) -> Iterator[Strip]:
    """Covers `images` of `height` x `width` in pieces of about `max_pixels`, and at least `multiple` rows of one image.

    The first row of each piece is a multiple of `multiple`; pieces of an image have sizes as equal as that allows.
    """
    if height * width <= max_pixels:
        group = max_pixels // max(1, height * width)
        for first in range(0, images, group):
            whole = slice(0, height)
            yield Strip(slice(first, min(first + group, images)), whole, whole)
        return
    count = -(-height * width // max_pixels)
    blocks = -(-height // multiple)
    count = min(count, blocks)
    edges = [min(blocks * i // count * multiple, height) for i in range(count + 1)]
    for image in range(images):
        for start, stop in zip(edges, edges[1:]):
            outer = slice(max(0, start - halo), min(height, stop + halo))
            yield Strip(slice(image, image + 1), slice(start, stop), outer)
