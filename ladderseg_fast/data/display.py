"""Images of any bands as RGB of 8 bits, to look at."""

import numpy as np

#: Shares of the pixels below the darkest and above the brightest value that a stretched band shows, in percent.
_TAILS = 2.0
#: Pixels that the values of a stretch are found from, spread evenly over rows and columns.
_LOOKED_AT = 1_000_000


def displayed(image: np.ndarray) -> np.ndarray:
    """Returns `image` [H, W, bands], uint8 or uint16, as [H, W, 3] uint8 to look at: RGB of 8 bits is unchanged.

    The first three bands are red, green and blue; of one or two bands the first is grey. Bands of 8 bits are shown as
    they are. Wider ones are stretched, each by itself: from the value that 2 % of the image's pixels are below, which
    becomes 0, to the one that 2 % are above, which becomes 255.
    """
    bands = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8:
        bands = np.stack([_stretched(bands[..., band]) for band in range(bands.shape[2])], axis=-1)
    return np.broadcast_to(bands, (*image.shape[:2], 3)) if bands.shape[2] == 1 else bands


def _stretched(band: np.ndarray) -> np.ndarray:
    """Returns `band` [H, W] uint16 as uint8."""
    step = max(1, round((band.size / _LOOKED_AT) ** 0.5))
    least, most = np.percentile(band[::step, ::step], (_TAILS, 100.0 - _TAILS)).astype(np.float32)
    if most <= least:
        return np.full(band.shape, 127, np.uint8)
    return np.rint(np.clip((band - least) * (255.0 / (most - least)), 0.0, 255.0)).astype(np.uint8)
