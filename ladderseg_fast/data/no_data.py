"""Value of the pixels in a TIFF that are without data."""

import math
from pathlib import Path

from .pixel_form import tiff_form, tiff_pages

#: GDAL's tag, a number as text.
_GDAL_NODATA = 42113


def no_data_value(path: Path) -> int | None:
    """Value that stands for no data in the bands of `path`; None unless it is a TIFF that says so.

    A value that no band can have, such as -9999 or nan, stands for nothing, and the colours that are made of a palette
    or of CMYK have none.

    Raises:
        OSError: the file cannot be read.
    """
    pages = tiff_pages(path)
    if not pages or _GDAL_NODATA not in pages[0] or not tiff_form(pages[0]).plain:
        return None
    try:
        value = float(str(pages[0][_GDAL_NODATA]).strip("\0 "))
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value == int(value) and value >= 0 else None
