"""List of the kinds of data sets; it opens a data set by the name of its kind."""

from pathlib import Path
from typing import Any

from .camvid import CAMVID
from .cityscapes import CITYSCAPES
from .data_set_kind import DataSetKind, Option
from .image_folder import FOLDER
from .result_format import ResultFormat
from .sample import SegmentationDataset
from .street import STREET
from .voc import VOC

#: Every kind of data set by its name, which `--data` and `data.kind` take.
DATA_SETS: dict[str, DataSetKind] = {}
#: The formats that benchmarks' servers take, by the kind of data set.
RESULT_FORMATS: dict[str, ResultFormat] = {}


def register_data_set(kind: DataSetKind) -> None:
    """Adds `kind` to DATA_SETS, and so to the configuration and to the command line.

    Raises:
        ValueError: its name is taken, or another kind declares an option of the same name in another way.
    """
    if kind.name in DATA_SETS:
        raise ValueError(f"there is a data set {kind.name!r} already")
    declared = {option.name: option for option in data_set_options()}
    for option in kind.options:
        if declared.get(option.name, option) != option:
            raise ValueError(f"data set {kind.name!r} declares the option {option.name!r} unlike another data set")
    DATA_SETS[kind.name] = kind
    if kind.result_format is not None:
        RESULT_FORMATS[kind.name] = kind.result_format


def data_set_options() -> tuple[Option, ...]:
    """Lists the options of all kinds; one that several kinds share is there once."""
    return tuple(dict.fromkeys(option for kind in DATA_SETS.values() for option in kind.options))


def option_owners(name: str) -> list[str]:
    """Names the kinds of data sets that have the option `name`."""
    return [kind.name for kind in DATA_SETS.values() if any(option.name == name for option in kind.options)]


def open_data_set(kind: str, root: str | Path | None, split: str, **options: Any) -> SegmentationDataset:
    """Opens a split of a data set of `kind`, one of DATA_SETS.

    Args:
        root: directory of the data set; None for "street", whose images are drawn.
        options: `coarse` of Cityscapes, `sbd` of PascalVOC, `val_share` and `split_seed` of ImageFolder; `size` (H, W)
            and `count` of the street scenes.

    Raises:
        ValueError: the kind, split or option is unknown, or a root is missing or not wanted; else as the data set does.
        OSError: as the data set does.
    """
    if kind not in DATA_SETS:
        raise ValueError(f"unknown data set {kind!r}; known are {', '.join(DATA_SETS)}")
    return DATA_SETS[kind].open(root, split, **options)


for _kind in (CAMVID, CITYSCAPES, FOLDER, VOC, STREET):
    register_data_set(_kind)
