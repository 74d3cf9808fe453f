"""Cityscapes in its official folders (Cordts et al. 2016)."""

from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .cityscapes_labels import CITYSCAPES_LABEL_SET, CITYSCAPES_LABELS, CITYSCAPES_TRAINED
from .data_set_kind import DataSetKind, Option
from .file_pairs import FilePair, FilePairs
from .image_files import image_from_array
from .label_values import LabelValues
from .result_format import ResultFormat, check_result

#: Splits, and the folder of their labels; the labels of the test split are the benchmark's secret.
_LABEL_FOLDERS = {"train": "gtFine", "val": "gtFine", "test": None, "train_extra": "gtCoarse"}

_IMAGE_ENDING = "_leftImg8bit.png"

#: *_labelIds.png holds all ids, *_labelTrainIds.png (made by cityscapesscripts) the classes.
_IDS = LabelValues(
    {label.id: label.train_id for label in CITYSCAPES_TRAINED},
    ignored=[label.id for label in CITYSCAPES_LABELS if label.ignore_in_eval and label.id >= 0],
)
_TRAIN_IDS = LabelValues.plain(len(CITYSCAPES_LABEL_SET))


class Cityscapes(FilePairs):
    """Reads `root`/leftImg8bit/`split`/CITY/NAME_leftImg8bit.png with the labels in gtFine or gtCoarse.

    The labels are NAME_gtFine_labelTrainIds.png if it exists, else the nineteen classes of NAME_gtFine_labelIds.png,
    whose other ids are ignored. NAME is CITY_SEQUENCE_FRAME.

    Args:
        split: train, val, test (without labels: what the official package has in their place is not read), or
            train_extra (20 000 images with coarse labels only).
        coarse: read the coarse labels of train. The other splits do not change: scores always use fine labels.

    Raises:
        OSError: `root` or the split's folder is missing or unreadable; on access, as FilePairs.
        ValueError: an unknown split, or one without images; on access, as FilePairs.
    """

    label_set = CITYSCAPES_LABEL_SET

    def __init__(self, root: str | Path, split: str, coarse: bool = False) -> None:
        root = Path(root)
        if split not in _LABEL_FOLDERS:
            raise ValueError(f"Cityscapes has the splits {', '.join(_LABEL_FOLDERS)}, not {split!r}")
        ground_truth = "gtCoarse" if coarse and split == "train" else _LABEL_FOLDERS[split]
        images = root / "leftImg8bit" / split
        names = _names(images, _IMAGE_ENDING)
        if ground_truth is None:
            pairs = [FilePair(name, _in_city(images, name, _IMAGE_ENDING), None, _IDS) for name in sorted(names)]
        else:
            labels = root / ground_truth / split
            ids, train_ids = f"_{ground_truth}_labelIds.png", f"_{ground_truth}_labelTrainIds.png"
            mapped = _names(labels, train_ids)
            # Labels without an image are broken pairs as well as images without labels.
            pairs = [
                FilePair(
                    name,
                    _in_city(images, name, _IMAGE_ENDING),
                    _in_city(labels, name, train_ids if name in mapped else ids),
                    _TRAIN_IDS if name in mapped else _IDS,
                )
                for name in sorted(names | mapped | _names(labels, ids))
            ]
        if not pairs:
            raise ValueError(f"{images}: no images (CITY/*{_IMAGE_ENDING})")
        super().__init__(pairs)

    def instances(self, index: int) -> Path:
        """Returns the file of 16-bit values that tells the things in a sample apart, as iIoU needs.

        Raises:
            ValueError: the split has no labels.
        """
        labels = self.pairs[index].labels
        if labels is None:
            raise ValueError(f"{self.name(index)}: this split of Cityscapes has no labels")
        stem, _, _ = labels.name.rpartition("_")
        return labels.with_name(f"{stem}_instanceIds.png")


def _names(folder: Path, ending: str) -> set[str]:
    """Finds CITY_SEQUENCE_FRAME of all files CITY/*`ending` in `folder`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory (of Cityscapes' official ones)")
    return {
        path.name.removesuffix(ending)
        for city in folder.iterdir()
        if city.is_dir()
        for path in city.iterdir()
        if path.name.endswith(ending)
    }


def _in_city(folder: Path, name: str, ending: str) -> Path:
    return folder / name.split("_")[0] / f"{name}{ending}"


def _result_path(name: str) -> PurePosixPath:
    """Names CITY_SEQUENCE_FRAME_labelIds.png: the server looks for one CITY_SEQUENCE_FRAME*.png per frame."""
    return PurePosixPath(f"{name}_labelIds.png")


def _result(classes: np.ndarray) -> Image.Image:
    """Makes the 8-bit grey picture of label ids (7 is road, ...) from classes [H, W]."""
    ids = np.array([label.id for label in CITYSCAPES_TRAINED], np.uint8)
    check_result(classes, len(ids))
    return image_from_array(ids[classes])


CITYSCAPES = DataSetKind(
    "cityscapes",
    Cityscapes,
    options=(
        Option("coarse", bool, False, "--coarse", "cityscapes: the coarse labels of train instead of the fine ones"),
    ),
    splits=tuple(_LABEL_FOLDERS),
    label_set=CITYSCAPES_LABEL_SET,
    default_size=(448, 1024),  # the paper's
    instance_ids=True,
    result_format=ResultFormat(_result_path, _result),
)
