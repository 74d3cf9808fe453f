"""Images that a prediction is asked for, and the paths of their results."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

#: Formats that Pillow opens only to say that it cannot read them.
_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG")


@dataclass(frozen=True)
class InputImage:
    """An image and the beginning of its results' paths."""

    path: Path
    result: Path

    @property
    def labels(self) -> Path:
        """Path of its labels."""
        return self._with("_labels.png")

    @property
    def overlay(self) -> Path:
        """Path of its overlay."""
        return self._with("_overlay.png")

    def _with(self, ending: str) -> Path:
        return self.result.with_name(self.result.name + ending)


@dataclass
class InputImages:
    """Result of find_images.

    others: files of directories whose names are not those of images; `unread` are directories that cannot be read, and
    why.
    """

    images: list[InputImage]
    others: int = 0
    unread: list[str] = field(default_factory=list)


def find_images(paths: Sequence[Path], out: Path, recursive: bool = False) -> InputImages:
    """Finds the images among `paths`: files as they are, and in directories the files whose endings are those of
    images.

    Results go below `out`, named after the image without its ending. For an image in a given directory they go into the
    same subdirectory there, below the name of the given directory if there are several. If two images would have the
    same name, their results keep the endings.

    Args:
        recursive: search directories with everything below them, except `out`. Links to directories are not followed.

    Raises:
        ValueError: a directory has no images, is `out` itself, or two images, or a result and an image, are the same
            file.
    """
    directories = [path for path in paths if os.path.isdir(path)]
    found = InputImages([])
    placed: list[tuple[Path, Path]] = []
    for path in paths:
        if not os.path.isdir(path):
            placed.append((path, Path(path.name)))
            continue
        top = Path(os.path.basename(os.path.realpath(path))) if len(directories) > 1 else Path()
        names = _names_in(path, out, recursive, found)
        placed += [(path / name, top / name) for name in names]
    short = Counter(relative.with_suffix("") for _, relative in placed)
    for path, relative in placed:
        unique = relative.with_suffix("") if short[relative.with_suffix("")] == 1 else relative
        found.images.append(InputImage(path, out / unique))
    _check(found.images)
    return found


def _names_in(directory: Path, out: Path, recursive: bool, found: InputImages) -> list[Path]:
    """Paths of images relative to `directory`, sorted; everything else there is noted in `found`."""
    target = os.path.realpath(out)
    if os.path.realpath(directory) == target:
        raise ValueError(f"--out must be another directory than that of the images, {directory}")
    names, below = [], 0
    for folder, folders, files in os.walk(directory, onerror=lambda error: found.unread.append(_reason(error))):
        below += len(folders)
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(folder, name)) != target)
        images = [name for name in files if _is_image(name)]
        found.others += len(files) - len(images)
        names += [Path(os.path.relpath(folder, directory), name) for name in sorted(images)]
        if not recursive:
            break
    if not names and not found.unread:
        hint = f"; -r looks into its {below} subdirectories, too" if below and not recursive else ""
        raise ValueError(f"{directory}: no images in this directory (files that end in .jpg, .png or the like){hint}")
    return names


def _is_image(name: str) -> bool:
    """Whether `name` has the ending of a format that Pillow reads, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _endings()


@cache
def _endings() -> frozenset[str]:
    formats = Image.registered_extensions()
    return frozenset(ending for ending, name in formats.items() if name in Image.OPEN and name not in _STUBS)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _check(images: list[InputImage]) -> None:
    """Raises ValueError if two images would write the same file, or one would overwrite an image."""
    inputs = {os.path.realpath(image.path) for image in images}
    first: dict[Path, Path] = {}
    for image in images:
        for output in (image.labels, image.overlay):
            if output in first:
                raise ValueError(f"{first[output]} and {image.path} would both be written to {output}")
            first[output] = image.path
            if os.path.realpath(output) in inputs:
                raise ValueError(f"the result {output} of {image.path} would overwrite an input image")
