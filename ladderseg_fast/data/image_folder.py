"""Any images with label PNGs, in folders of the plainest layout."""

from pathlib import Path

from .classes_file import read_classes
from .file_pairs import FilePair, FilePairs

#: Endings of image files, in small letters.
_IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder(FilePairs):
    """`root`/images/`split`/NAME.jpg (or .png, ...) with `root`/labels/`split`/NAME.png; `root`/classes.toml.

    The split is any name of a sub-folder. See `read_classes` for the classes file. Hidden files are passed over.

    Raises:
        OSError: a folder or the classes file is missing or unreadable; on access, as FilePairs.
        ValueError: an empty folder, something else than images and PNGs in it, two images that would share labels, a
            malformed classes file; on access, as FilePairs.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        root = Path(root)
        images = _by_stem(root / "images" / split, _IMAGE_ENDINGS)
        labels = _by_stem(root / "labels" / split, (".png",))
        self.label_set, values = read_classes(root / "classes.toml")
        # Labels without an image are broken pairs as well as images without labels: each names the file that lacks.
        super().__init__(
            [
                FilePair(
                    stem,
                    images.get(stem, root / "images" / split / f"{stem}.*"),
                    labels.get(stem, root / "labels" / split / f"{stem}.png"),
                    values,
                )
                for stem in sorted(images | labels)
            ]
        )


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The files of `folder` by their names without the ending."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in endings:
            raise ValueError(f"{path}: only files that end in {', '.join(endings)} are expected here")
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path.name} would share one label image")
        found[path.stem] = path
    if not found:
        raise ValueError(f"{folder}: the folder is empty")
    return found
