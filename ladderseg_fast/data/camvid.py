"""CamVid road scenes in the layout that SegNet's authors published."""

from pathlib import Path

from .file_pairs import FilePair, FilePairs, read_stems
from .label_set import LabelSet
from .label_values import LabelValues

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

_VALUES = LabelValues.plain(len(CAMVID_LABELS), ignored=(_VOID,))


class CamVid(FilePairs):
    """`root`/`split`.txt lists stems, one a line; `split`/STEM.png and `split`annot/STEM.png are the pairs.

    Annotation value 11 (void) becomes IGNORE_INDEX.

    Raises:
        OSError: `root` or the list is missing or unreadable; on access, as FilePairs.
        ValueError: a malformed or empty list; on access, as FilePairs.
    """

    label_set = CAMVID_LABELS

    def __init__(self, root: str | Path, split: str) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such directory (the root of CamVid)")
        super().__init__(
            [
                FilePair(stem, root / split / f"{stem}.png", root / f"{split}annot" / f"{stem}.png", _VALUES)
                for stem in read_stems(root / f"{split}.txt")
            ]
        )
