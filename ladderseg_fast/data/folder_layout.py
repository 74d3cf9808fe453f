"""Layouts of one's own images and label images: three of them, and the known names of folders."""

from pathlib import Path
from typing import NamedTuple

from .automatic_split import AUTOMATIC_SPLITS

#: Endings of image files, in small letters.
IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

#: Names of the folder of images and of that of label images, in capitals or not.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages")
LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "ann_dir",
    "gt",
    "ground_truth",
    "segmentationclass",
)

#: Files that operating systems leave behind, in small letters; besides hidden ones.
_STRAY = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")

#: Names that an error lists.
_LISTED = 12


class FolderLayout(NamedTuple):
    """Folders of one split."""

    images: Path
    labels: Path
    whole: bool
    """Whether the folders hold the images of all splits."""


def find_layout(root: Path, split: str) -> FolderLayout:
    """Finds the folders of `split`, under any of the known names.

    They are images/SPLIT and labels/SPLIT, or SPLIT/images and SPLIT/labels, or images and labels without splits.

    Raises:
        OSError: there is no such directory, it has none of the layouts, or it cannot be read.
        ValueError: several folders could be meant; or there are no splits, and `split` is not one of AUTOMATIC_SPLITS.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such directory (the root of the images and labels)")
    inside = root / split
    below_kind = [path for path in _named(root, IMAGE_FOLDERS + LABEL_FOLDERS) if (path / split).is_dir()]
    below_split = _named(inside, IMAGE_FOLDERS + LABEL_FOLDERS) if inside.is_dir() else []
    if below_kind and below_split:
        found = [path / split for path in below_kind] + below_split
        raise ValueError(f"{root}: the split {split!r} could be in several folders: {_listing(found)}")
    if below_split:
        return FolderLayout(_only(inside, IMAGE_FOLDERS), _only(inside, LABEL_FOLDERS), False)
    images, labels = _only(root, IMAGE_FOLDERS, split), _only(root, LABEL_FOLDERS, split)
    splits = [path for folder in (images, labels) for path in entries(folder) if path.is_dir()]
    files = [path for folder in (images, labels) for path in entries(folder) if _is_image(path)]
    if not splits:
        if split not in AUTOMATIC_SPLITS:
            raise ValueError(
                f"{root}: there is no split {split!r}: {images.name} and {labels.name} have no folders of splits, so "
                f"theirs are {', '.join(AUTOMATIC_SPLITS)}"
            )
        return FolderLayout(images, labels, True)
    if files:
        raise ValueError(
            f"{root}: both images and folders in {images.name} and {labels.name}, so it is not clear what the splits "
            f"are: {_listing(splits + files)}"
        )
    for folder in (images, labels):
        if not (folder / split).is_dir():
            there = _listing(entries(folder))
            raise FileNotFoundError(f"{folder / split}: no such directory; {folder.name} has {there}")
    return FolderLayout(images / split, labels / split, False)


def entries(folder: Path) -> list[Path]:
    """Lists `folder` by name, without hidden files and those that operating systems leave behind."""
    return sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _STRAY
    )


def _named(place: Path, names: tuple[str, ...]) -> list[Path]:
    """Lists the folders in `place` with one of `names`, in any case."""
    return [path for path in entries(place) if path.name.lower() in names and path.is_dir()]


def _only(place: Path, names: tuple[str, ...], split: str | None = None) -> Path:
    """Finds the one folder in `place` with one of `names`; of several, the one that has images (of `split`, or itself).

    Raises:
        FileNotFoundError: there is none.
        ValueError: several have.
    """
    found = _named(place, names)
    if not found:
        raise FileNotFoundError(f"{place}: no folder {' or '.join(names)} here; there is {_listing(entries(place))}")
    used = [folder for folder in found if any(_is_image(path) for path in _images_of(folder, split))]
    if len(found) > 1 and len(used) != 1:
        raise ValueError(f"{place}: one folder of {', '.join(names)} is expected, but there are {_listing(found)}")
    return used[0] if used else found[0]


def _images_of(folder: Path, split: str | None) -> list[Path]:
    """Lists the folder of the split in `folder`, or `folder` itself if there is none."""
    return entries(folder / split if split is not None and (folder / split).is_dir() else folder)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS


def _listing(paths: list[Path]) -> str:
    """Writes the last names of `paths`, with that of the folder if there are several."""
    several = len({path.parent for path in paths}) > 1
    names = [f"{path.parent.name}/{path.name}" if several else path.name for path in paths]
    more = [f"{len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return ", ".join(names[:_LISTED] + more) or "nothing"
