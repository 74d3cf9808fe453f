"""Form of a data set's images, found in its first file if nobody says it."""

from pathlib import Path

from .file_pairs import FilePairs
from .image_form import MOST_BANDS, MOST_BITS, RGB, ImageForm, check_form
from .image_header import ImageHeader, read_header
from .sample import SegmentationDataset


def find_form(samples: SegmentationDataset, bands: int | None = None, bits: int | None = None) -> ImageForm:
    """Finds the form that all images of `samples` should have: `bands` and `bits`, each where it is given.

    What is not given is that of the first image with a readable header. An image that RGB of 8 bits holds without loss
    stands for that, and so does one that cannot be used at all, which reading it will say.

    Raises:
        ValueError: `bands` or `bits` is out of range; or a channel of the first image is marked as transparency, which
            may be a band.
    """
    check_form(bands, bits)
    if not isinstance(samples, FilePairs):
        return ImageForm(bands or samples.form.bands, bits or samples.form.bits)
    if bands is None or bits is None:
        for index in range(len(samples)):
            path = samples.files(index)[0]
            try:
                header = read_header(path)
            except (OSError, ValueError):
                continue
            return _form_of(path, header, bands, bits)
    return ImageForm(bands or RGB.bands, bits or RGB.bits)


def _form_of(path: Path, header: ImageHeader, bands: int | None, bits: int | None) -> ImageForm:
    found = header.form
    if bands is None and bits in (None, RGB.bits) and found.fits:
        return RGB
    usable = header.format in ("PNG", "TIFF") and found.plain and not found.kind
    if not usable or not RGB.bits <= found.bits <= MOST_BITS or found.channels > MOST_BANDS:
        return ImageForm(bands or RGB.bands, bits or RGB.bits)
    if bands is None and found.alpha:
        raise ValueError(
            f"{path}: the image has {found}: data.bands = {found.channels} reads the channel that is marked as "
            "transparency as a band; otherwise save the images without it"
        )
    return ImageForm(bands or found.channels, bits or found.bits)
