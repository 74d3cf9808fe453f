"""Place on the earth that a GeoTIFF says of its pixels (OGC GeoTIFF 1.1)."""

from pathlib import Path

import numpy as np

from ...data.pixel_form import tiff_pages
from .tiff_directory import ASCII, DOUBLE, SHORT, TiffTag, text_tag

#: Scale, tie points, transformation, and the keys of the coordinate system with their numbers and texts.
_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)


def georeference(path: Path) -> tuple[TiffTag, ...]:
    """Tags that say where the pixels of `path` lie; none unless it is a GeoTIFF.

    Raises:
        OSError: the file cannot be read.
    """
    pages = tiff_pages(path) if path.is_file() else []
    found = []
    for number in _TAGS if pages else ():
        kind = pages[0].tagtype.get(number)
        if kind == ASCII:
            found.append(text_tag(number, pages[0][number]))
        elif kind in (SHORT, DOUBLE):
            found.append(TiffTag(number, kind, np.atleast_1d(pages[0][number])))
    return tuple(found)
