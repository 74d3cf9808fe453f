"""Form that all images of a data set have: how many bands, and how many bits in each."""

from typing import Final, NamedTuple

import numpy as np

#: Bands of an image at most.
MOST_BANDS = 32
#: Bits of a band at least and at most.
LEAST_BITS, MOST_BITS = 8, 16


class ImageForm(NamedTuple):
    """Bands and bits of an image as an array [H, W, bands].

    Three bands of 8 bits are RGB, and every image that RGB of 8 bits holds without loss becomes one: grey images,
    palettes and CMYK too. Bands of any other form are those of the file, as they are there.
    """

    bands: int = 3
    bits: int = 8

    @property
    def dtype(self) -> np.dtype:
        """Type of the array: uint8 for 8 bits, else uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def most(self) -> int:
        """Greatest value that a band can have."""
        return int(2**self.bits - 1)

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of a pixel of the array."""
        return self.bands * self.dtype.itemsize

    def __str__(self) -> str:
        if self == RGB:
            return "RGB of 8 bits"
        return f"{self.bands} {'band' if self.bands == 1 else 'bands'} of {self.bits} bits"


#: RGB of 8 bits, which most images are, or become.
RGB: Final = ImageForm()


def check_form(bands: int | None, bits: int | None) -> None:
    """Raises ValueError for a number of bands or bits out of range; None stands for one that is not known."""
    if bands is not None and not 1 <= bands <= MOST_BANDS:
        raise ValueError(f"bands must be 1 to {MOST_BANDS}, got {bands}")
    if bits is not None and not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits must be {LEAST_BITS} to {MOST_BITS}, got {bits}")
