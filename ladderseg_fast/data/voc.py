"""Pascal VOC 2012's segmentation task (Everingham et al. 2010), and its extension by SBD (Hariharan et al. 2011)."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .data_set_kind import DataSetKind, Option
from .file_pairs import FilePair, FilePairs
from .image_files import image_from_array
from .label_set import LabelSet
from .label_values import LabelValues
from .listed_names import read_stems
from .result_format import ResultFormat, check_result

_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
).split()

#: Splits, and whether each has labels and grows by SBD's images.
_LABELLED = {"train": True, "val": True, "trainval": True, "test": False}
_EXTENDED = ("train", "trainval")

#: Where SBD's labels lie as PNGs, below the directory that is given; or in that directory itself.
_SBD_FOLDERS = ("SegmentationClassAug", "dataset/cls_png", "cls_png", "dataset/cls", "cls", ".")


def voc_colour(value: int) -> tuple[int, int, int]:
    """Returns the colour of a label in VOC's palette: its bits, dealt in turn to the high bits of R, G and B."""
    colour = [0, 0, 0]
    for i in range(8):
        colour[i % 3] |= (value >> i & 1) << (7 - i // 3)
    return colour[0], colour[1], colour[2]


def voc_label_set(names: Sequence[str]) -> LabelSet:
    """Gives the classes `names` the colours of VOC's palette. Raises ValueError as LabelSet does."""
    return LabelSet(tuple(names), tuple(voc_colour(k) for k in range(len(names))))


VOC_LABELS = voc_label_set(_NAMES)

_VALUES = LabelValues.plain(len(VOC_LABELS))


class PascalVOC(FilePairs):
    """Reads JPEGImages/STEM.jpg and SegmentationClass/STEM.png for each STEM of ImageSets/Segmentation/`split`.txt.

    Label images are palette PNGs; value 255, around things and where they are hard to tell, is ignored.

    Args:
        root: the directory VOC2012, or VOCdevkit with it, or the one that VOCdevkit was unpacked to.
        split: train, val, trainval, or test (without labels).
        sbd: the directory of SBD's labels as 8-bit PNGs: SegmentationClassAug, SBD's dataset/cls_png, or one that holds
            either. Its images are added to train, except those of VOC's val, and to trainval. VOC's own labels go
            before SBD's; val and test do not change.

    Raises:
        OSError: a directory or list is missing or unreadable; on access, as FilePairs.
        ValueError: an unknown split, a malformed list, no PNG in `sbd`; on access, as FilePairs.
    """

    label_set = VOC_LABELS

    def __init__(self, root: str | Path, split: str, sbd: str | Path | None = None) -> None:
        if split not in _LABELLED:
            raise ValueError(f"VOC has the splits {', '.join(_LABELLED)}, not {split!r}")
        home = _home(Path(root))
        lists = home / "ImageSets" / "Segmentation"
        stems = read_stems(lists / f"{split}.txt")
        labels = {stem: home / "SegmentationClass" / f"{stem}.png" if _LABELLED[split] else None for stem in stems}
        if sbd is not None and split in _EXTENDED:
            held_out = set(read_stems(lists / "val.txt")) if split == "train" else set()
            extra = {path.stem: path for path in _sbd_files(Path(sbd)) if path.stem not in held_out}
            labels = dict(sorted((extra | labels).items()))
        super().__init__(
            [FilePair(stem, home / "JPEGImages" / f"{stem}.jpg", path, _VALUES) for stem, path in labels.items()]
        )


def _home(root: Path) -> Path:
    """Finds the directory VOC2012 at or below `root`."""
    for home in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (home / "JPEGImages").is_dir():
            return home
    raise FileNotFoundError(f"{root}: no directory JPEGImages here, in VOC2012 or in VOCdevkit/VOC2012")


def _sbd_files(directory: Path) -> list[Path]:
    """Lists the label images of SBD."""
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory (of SBD's labels)")
    for folder in _SBD_FOLDERS:
        files = sorted((directory / folder).glob("*.png"))
        if files:
            return files
    raise ValueError(
        f"{directory}: no PNG here nor in {', '.join(_SBD_FOLDERS[:-1])}; SBD's .mat files have to be converted first"
    )


def _result_path(name: str) -> PurePosixPath:
    """Returns the place in VOC's archive: comp6 allows any images in training; comp5, VOC's own only."""
    return PurePosixPath("results", "VOC2012", "Segmentation", "comp6_test_cls", f"{name}.png")


def _result(classes: np.ndarray) -> Image.Image:
    """Makes an 8-bit picture of classes [H, W] with VOC's palette of 256 colours."""
    check_result(classes, len(VOC_LABELS))
    picture = image_from_array(classes)
    picture.putpalette([value for k in range(256) for value in voc_colour(k)])
    return picture


VOC = DataSetKind(
    "voc",
    PascalVOC,
    options=(Option("sbd", Path, None, "--aug", "voc: add SBD's images, with the label PNGs in DIR"),),
    splits=tuple(_LABELLED),
    label_set=VOC_LABELS,
    default_size=(512, 512),
    result_format=ResultFormat(_result_path, _result),
)
