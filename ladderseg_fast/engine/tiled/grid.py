"""Places of overlapping tiles along an axis of an image, and the seams where one gives way to the next."""

from dataclasses import dataclass
from itertools import pairwise

#: Share of the overlap over which tiles are blended; half of the rest, on either side, is context for each of them.
_BLENDED = 0.5


@dataclass(frozen=True)
class TileSize:
    """Height and width of square tiles, and the least overlap of neighbours, in pixels of the image.

    Raises:
        ValueError: a number is out of range.
    """

    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1 pixel, got {self.tile}")
        if not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap must be from 0 to less than the tile, {self.tile} pixels, got {self.overlap}")

    def check(self, stride: int) -> None:
        """Checks that all tiles can start where the pixels of a network's deepest map do.

        Raises:
            ValueError: `tile` or `overlap` is no multiple of `stride`, that of the deepest map, or `tile` is below two
                of them, so that the last tile could be smaller than the network sees.
        """
        if self.tile % stride or self.tile < 2 * stride:
            near = max(2, round(self.tile / stride)) * stride
            raise ValueError(
                f"tile must be a multiple of {stride}, this network's stride, from {2 * stride}, got {self.tile}; "
                f"{near} is the nearest"
            )
        if self.overlap % stride:
            near = min(round(self.overlap / stride) * stride, self.tile - stride)
            raise ValueError(
                f"overlap must be a multiple of {stride}, this network's stride, and less than the tile, got "
                f"{self.overlap}; {near} is the nearest"
            )


@dataclass(frozen=True)
class Seam:
    """Scores from `first` to before `last` that are blended of two tiles; outside one of them counts alone."""

    first: int
    last: int


@dataclass(frozen=True)
class Axis:
    """Tiles along the height or the width.

    Attributes:
        length: pixels of the image.
        spans: first pixel, and the one after the last, of each tile.
    """

    length: int
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def cover(cls, length: int, size: TileSize, stride: int) -> "Axis":
        """Covers `length` pixels with the fewest tiles that overlap as much as `size` asks for, about evenly spread.

        Each tile starts at a multiple of `stride`, as the pixels of the deepest map do: the network computes in it what
        it computes of the whole image, except where it misses context. So the last tile, which ends with the image, is
        up to `stride` - 1 pixels smaller than the others. An image that is not larger than a tile is one tile.
        """
        steps = max(0, -(-(length - size.tile) // stride))
        count = -(-steps * stride // (size.tile - size.overlap))
        starts = [0] + [steps * i // count * stride for i in range(1, count + 1)]
        return cls(length, tuple((start, min(start + size.tile, length)) for start in starts))

    def scores(self, pitch: int) -> int:
        """Number of scores along this axis, one every `pitch` pixels."""
        return -(-self.length // pitch)

    def seams(self, overlap: int, pitch: int) -> list[Seam]:
        """Seam of each tile, except the last, with the next, in scores; a score stands for `pitch` pixels.

        Each is in the middle of the pixels that both tiles have, and about half of `overlap` wide, so that a tile
        counts only where it has a quarter of `overlap` around as context; beside each seam some scores are of one tile
        alone.
        """
        seams = []
        for (before, end), (start, _) in pairwise(self.spans):
            shared = (end - start) // pitch
            wide = min(int(overlap * _BLENDED) // pitch, max(0, (start - before) // pitch - 2))
            first = start // pitch + (shared - wide) // 2
            seams.append(Seam(first, first + wide))
        return seams
