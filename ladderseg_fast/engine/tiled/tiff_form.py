"""Form of the pixels in a TIFF page, and what is made of them (TIFF 6.0)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data.image_header import advice
from ...data.pixel_form import PixelForm

#: Photometric interpretations that are read.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
#: The numbers of a pixel that are its colour.
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _YCBCR: 3}
#: What they are called.
_NAMES = {_WHITE_IS_ZERO: "grey", _BLACK_IS_ZERO: "grey", _RGB: "RGB", _PALETTE: "palette", _YCBCR: "YCbCr"}
#: JPEG, of which the decoder makes RGB.
_JPEG = (6, 7)
#: What an additional number of a pixel is, if it is transparency.
_ALPHA = (1, 2)
_ORIENTATION = "Orientation"


class TiffForm(NamedTuple):
    """Meaning of the numbers of a pixel."""

    path: Path
    dtype: np.dtype
    """uint8 or uint16, of what `pixels` returns."""
    channels: int
    """Channels of what `pixels` returns."""
    palette: np.ndarray | None
    """Colours [N, 3] uint8, if a pixel is the index of one."""
    inverted: bool
    """Whether 0 is white."""
    alpha: bool
    """Whether the last number is transparency, which is left out."""

    def pixels(self, stored: np.ndarray) -> np.ndarray:
        """Colours or bands [h, w, C] of the numbers `stored` [h, w, N].

        Raises:
            OSError: an index is beyond the palette.
            ValueError: the transparency is neither none nor full somewhere; it may be another band.
        """
        if stored.dtype == np.bool_:
            stored = stored.astype(np.uint8) * np.uint8(1 if self.palette is not None else 255)
        if self.alpha:
            self._check_alpha(stored[..., -1])
            stored = stored[..., :-1]
        if self.palette is not None:
            if stored.max() >= len(self.palette):
                raise OSError(f"{self.path}: damaged: a pixel's colour is not in the palette")
            return self.palette[stored[..., 0]]
        return np.iinfo(self.dtype).max - stored if self.inverted else stored

    def _check_alpha(self, alpha: np.ndarray) -> None:
        between = np.count_nonzero((alpha > 0) & (alpha < np.iinfo(alpha.dtype).max))
        if between:
            raise ValueError(
                f"{self.path}: the band called alpha has values between none and full in {between} pixels of a window: "
                "if it is another band (near infrared?) or smooth transparency, save the others without it"
            )


def tiff_form(path: Path, page: Any, stored: bool) -> TiffForm:
    """Form of the pixels of `page`, a tifffile.TiffPage.

    Args:
        stored: the channels are the numbers in the file, of 8 to 16 bits, transparency among them.

    Raises:
        ValueError: they cannot be used; unless `stored`, there are more bands than the colours are made of.
    """
    dtype, photometric, samples = page.dtype, int(page.photometric), page.samplesperpixel
    if dtype is None or np.dtype(dtype) not in (np.bool_, np.uint8, np.uint16):
        bits, kind = page.bitspersample, np.dtype(dtype).name if dtype is not None else "unknown"
        raise ValueError(f"{path}: the image has {bits} bits per channel, {kind}; whole numbers of 8 to 16 are read")
    if photometric not in _COLOURS or (photometric == _YCBCR and page.compression not in _JPEG):
        raise ValueError(
            f"{path}: the image's colours are {getattr(page.photometric, 'name', photometric)}; save it as grey or RGB"
        )
    if page.bitspersample != 1 and not 8 <= page.bitspersample <= 16:
        raise ValueError(f"{path}: the image has {page.bitspersample} bits per channel; save it with 8 or 16")
    if page.ndim != (3 if samples > 1 else 2):
        raise ValueError(f"{path}: a picture of rows and columns is expected, but the TIFF has axes {page.dims}")
    orientation = page.tags.valueof(_ORIENTATION, 1)
    if orientation != 1:
        raise ValueError(f"{path}: the image is stored turned (orientation {orientation}): save it upright")
    if stored:
        if photometric in (_WHITE_IS_ZERO, _PALETTE) or page.dtype == np.bool_:
            kind = "1 bit per channel" if page.dtype == np.bool_ else f"{page.photometric.name} pixels"
            raise ValueError(f"{path}: the image has {kind}; bands of 8 to 16 bits are expected")
        return TiffForm(path, np.dtype(page.dtype), samples, palette=None, inverted=False, alpha=False)
    extra = samples - _COLOURS[photometric]
    alpha = extra == 1 and tuple(page.extrasamples)[:1] in [(kind,) for kind in _ALPHA]
    if extra > alpha:
        found = PixelForm(_NAMES[photometric], page.bitspersample, more=extra, channels=samples)
        raise ValueError(f"{path}: the image has {found}; {advice(found)}")
    palette = None
    if photometric == _PALETTE:
        palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
    channels = 3 if palette is not None else samples - alpha
    inverted = photometric == _WHITE_IS_ZERO and channels == 1
    kind = np.dtype(np.uint16 if page.dtype == np.uint16 and palette is None else np.uint8)
    return TiffForm(path, kind, channels, palette, inverted, alpha)
