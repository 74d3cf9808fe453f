"""CamVid road scenes in the layout that SegNet's authors published."""

from pathlib import Path

import numpy as np

from .image_files import read_annotation, read_image
from .label_set import IGNORE_INDEX, LabelSet
from .sample import Sample, SegmentationDataset

#: The eleven classes of Badrinarayanan et al. (SegNet), in the order of the annotation's values.
CAMVID_LABELS = LabelSet(
    names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    palette=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)

#: Annotation value of pixels without a class.
_VOID = 11


class CamVid(SegmentationDataset):
    """`root`/`split`.txt lists stems, one a line; `split`/STEM.png and `split`annot/STEM.png are the pairs.

    Annotation value 11 (void) becomes IGNORE_INDEX.

    Raises:
        OSError: `root`, the list, or a file of a listed pair is missing; on access, an unreadable file.
        ValueError: a malformed or empty list; on access, image and annotation differ in size, or a label above 11.
    """

    label_set = CAMVID_LABELS

    def __init__(self, root: str | Path, split: str) -> None:
        self.root = Path(root)
        self.split = split
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such directory (the root of CamVid)")
        self.stems = self._read_list(self.root / f"{split}.txt")
        for stem in self.stems:
            for path in (self._image_path(stem), self._annotation_path(stem)):
                if not path.is_file():
                    raise FileNotFoundError(f"{path}: no such file, but {split}.txt lists {stem}")

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> Sample:
        stem = self.stems[index]
        image = read_image(self._image_path(stem))
        path = self._annotation_path(stem)
        annotation = read_annotation(path)
        if annotation.shape != image.shape[:2]:
            raise ValueError(
                f"{path}: annotation is {annotation.shape[0]}x{annotation.shape[1]} "
                f"but its image is {image.shape[0]}x{image.shape[1]} (HxW)"
            )
        highest = int(annotation.max())
        if highest > _VOID:
            raise ValueError(f"{path}: labels must be 0 to {_VOID}, found {highest}")
        return Sample(stem, image, np.where(annotation == _VOID, np.uint8(IGNORE_INDEX), annotation))

    def name(self, index: int) -> str:
        return self.stems[index]

    def files(self, index: int) -> tuple[Path, ...]:
        return self._image_path(self.stems[index]), self._annotation_path(self.stems[index])

    def _image_path(self, stem: str) -> Path:
        return self.root / self.split / f"{stem}.png"

    def _annotation_path(self, stem: str) -> Path:
        return self.root / f"{self.split}annot" / f"{stem}.png"

    @staticmethod
    def _read_list(path: Path) -> list[str]:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file (the list of the split's images)")
        stems = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not stems:
            raise ValueError(f"{path}: the list is empty")
        for stem in stems:
            if "/" in stem or "\\" in stem or " " in stem:
                raise ValueError(f"{path}: one file stem a line is expected, got {stem!r}")
        return stems
