"""Number of pixels that an image may have before a decoder refuses it as a decompression bomb."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image


@contextmanager
def pixel_limit(pixels: int | None) -> Iterator[None]:
    """Block in which images of up to `pixels` pixels are decoded, in all threads; None: Pillow's limit, 179 million.

    A header of a few bytes can announce more than fits into memory, so a limit should always hold.
    """
    before = Image.MAX_IMAGE_PIXELS
    if pixels is not None:
        Image.MAX_IMAGE_PIXELS = -(-pixels // 2)  # it warns above its limit, and refuses above twice that
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def above_pixel_limit(error: BaseException) -> bool:
    """Whether `error`, which a reader of this package raised, says that an image has too many pixels."""
    return isinstance(error.__cause__, Image.DecompressionBombError)
