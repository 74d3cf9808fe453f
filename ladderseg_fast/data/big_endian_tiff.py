"""BigTIFF with the most significant byte first, which Pillow takes for another TIFF and cannot read."""

import io
from pathlib import Path

from ..models.weights import MissingPackageError
from .lzw import check_all_lzw
from .pixel_form import BIG_ENDIAN_BIGTIFF

#: Photometric interpretations that tifffile writes as it read them: grey, RGB, palettes and CMYK.
_KEPT = (0, 1, 2, 3, 5)
_PALETTE, _ORIENTATION = 3, 274


def is_big_endian_bigtiff(path: Path) -> bool:
    """Whether the file `path` begins as one."""
    with open(path, "rb") as file:
        return file.read(len(BIG_ENDIAN_BIGTIFF)) == BIG_ENDIAN_BIGTIFF


def as_ordinary_tiff(path: Path) -> io.BytesIO:
    """Returns the first page of `path` as a TIFF that Pillow reads: the same numbers with the same meaning.

    Raises:
        MissingPackageError: tifffile is not installed.
        ValueError: its colours are others than grey, RGB, palettes and CMYK.
        OSError: the file is damaged.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingPackageError(
            f'{path}: such a TIFF (BigTIFF, big-endian) needs tifffile: pip install "ladderseg_fast[tiff]"'
        ) from error
    written = io.BytesIO()
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            photometric = int(page.photometric)
            if photometric in _KEPT:
                check_all_lzw(page)
                orientation = page.tags.valueof(_ORIENTATION, 1)
                tifffile.imwrite(
                    written,
                    page.asarray(),
                    photometric=photometric,
                    planarconfig=page.planarconfig if page.samplesperpixel > 1 else None,
                    extrasamples=page.extrasamples or None,
                    colormap=page.colormap if photometric == _PALETTE else None,
                    extratags=[(_ORIENTATION, 3, 1, orientation, True)],
                    metadata=None,
                )
    except MemoryError:
        raise
    except Exception as error:  # of tifffile, and of the codecs: neither documents which
        raise OSError(f"{path}: cannot read the image ({error})") from error
    if photometric not in _KEPT:
        raise ValueError(f"{path}: the colours of a big-endian BigTIFF must be grey, RGB, a palette or CMYK")
    written.seek(0)
    return written
