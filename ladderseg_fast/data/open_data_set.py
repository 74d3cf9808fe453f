"""Data sets by name, for the command line and the configuration file."""

from pathlib import Path
from typing import Any

from .camvid import CamVid
from .cityscapes import Cityscapes
from .file_pairs import FilePairs
from .image_folder import ImageFolder
from .sample import SegmentationDataset
from .street import StreetScenes
from .voc import PascalVOC

#: Kinds of data sets that are read from files, and the options of each.
_FILE_KINDS: dict[str, tuple[type[FilePairs], tuple[str, ...]]] = {
    "camvid": (CamVid, ()),
    "cityscapes": (Cityscapes, ("coarse",)),
    "folder": (ImageFolder, ("val_share", "split_seed")),
    "voc": (PascalVOC, ("sbd",)),
}
FILE_DATA_KINDS = tuple(_FILE_KINDS)

#: All kinds, for `open_data_set`.
DATA_KINDS = (*FILE_DATA_KINDS, "street")

#: Images and seed of the street scenes' splits: no street is in both.
_STREET_SPLITS = {"train": (256, 0), "val": (16, 1)}
_STREET_SIZE = (256, 512)


def open_data_set(kind: str, root: str | Path | None, split: str, **options: Any) -> SegmentationDataset:
    """The split of a data set of `kind`, one of DATA_KINDS.

    Args:
        root: its directory; None for "street", whose images are drawn.
        options: `coarse` of Cityscapes, `sbd` of PascalVOC, `val_share` and `split_seed` of ImageFolder; `size` (H, W)
            and `count` of the street scenes.

    Raises:
        ValueError: an unknown kind, split or option, no root or one too many; else as the data set does.
        OSError: as the data set does.
    """
    if kind == "street":
        _check_options(kind, options, ("size", "count"))
        if root is not None:
            raise ValueError(f"data set 'street' is drawn, not read: it has no root, got {root}")
        return _street_scenes(split, **options)
    if kind not in _FILE_KINDS:
        raise ValueError(f"unknown data set {kind!r}; known are {', '.join(DATA_KINDS)}")
    data_set, known = _FILE_KINDS[kind]
    _check_options(kind, options, known)
    if root is None:
        raise ValueError(f"data set {kind!r} needs a root, the directory that it is in")
    return data_set(root, split, **options)


def _street_scenes(split: str, size: tuple[int, int] = _STREET_SIZE, count: int | None = None) -> StreetScenes:
    if split not in _STREET_SPLITS:
        raise ValueError(f"the street scenes have the splits {', '.join(_STREET_SPLITS)}, not {split!r}")
    default_count, seed = _STREET_SPLITS[split]
    return StreetScenes(default_count if count is None else count, size, seed)


def _check_options(kind: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise ValueError(f"data set {kind!r} has no option {name!r}; it has {', '.join(known) or 'none'}")
