"""Images of any bands as RGB of 8 bits, to look at."""

from collections.abc import Sequence

import numpy as np

#: Shares of the pixels below the darkest and above the brightest value that a stretched band shows, in percent.
_TAILS = 2.0
#: Pixels that the values of a stretch are found from, spread evenly over rows and columns.
_LOOKED_AT = 1_000_000

#: The least and the greatest value that each band shows.
Ranges = Sequence[tuple[np.float32, np.float32]]


def displayed(image: np.ndarray, ranges: Ranges | None = None) -> np.ndarray:
    """Returns `image` [H, W, bands], uint8 or uint16, as [H, W, 3] uint8 to look at: RGB of 8 bits is unchanged.

    The first three bands are red, green and blue; of one or two bands the first is grey. Bands of 8 bits are shown as
    they are. Wider ones are stretched, each by itself: from the value that 2 % of the image's pixels are below, which
    becomes 0, to the one that 2 % are above, which becomes 255.

    Args:
        ranges: those that shown_ranges found for an image that this is a part of; None: it is whole.
    """
    if image.dtype != np.uint8 and ranges is None:
        step = looked_at_step(image.shape[:2])
        ranges = shown_ranges(image[::step, ::step])
    bands = _shown(image)
    if image.dtype != np.uint8 and ranges is not None:
        bands = np.stack([_stretched(bands[..., band], *ends) for band, ends in enumerate(ranges)], axis=-1)
    return np.broadcast_to(bands, (*image.shape[:2], 3)) if bands.shape[2] == 1 else bands


def looked_at_step(size: tuple[int, int]) -> int:
    """Distance of the rows, and of the columns, of an image of `size` (H, W) that its ranges are found from."""
    return max(1, round((size[0] * size[1] / _LOOKED_AT) ** 0.5))


def shown_ranges(pixels: np.ndarray) -> Ranges:
    """Ranges of the bands that are shown of an image, from `pixels` [h, w, bands] at every looked_at_step."""
    bands = _shown(pixels)
    ends = [np.percentile(bands[..., band], (_TAILS, 100.0 - _TAILS)) for band in range(bands.shape[2])]
    return [(np.float32(least), np.float32(most)) for least, most in ends]


def _shown(image: np.ndarray) -> np.ndarray:
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1]


def _stretched(band: np.ndarray, least: np.float32, most: np.float32) -> np.ndarray:
    """Returns `band` [H, W] uint16 as uint8."""
    if most <= least:
        return np.full(band.shape, 127, np.uint8)
    return np.rint(np.clip((band - least) * (np.float32(255.0) / (most - least)), 0.0, 255.0)).astype(np.uint8)
