"""CamVid road scenes in the layout that SegNet's authors published."""

from pathlib import Path

from .data_set_kind import DataSetKind
from .file_pairs import FilePair, FilePairs
from .label_set import LabelSet
from .label_values import LabelValues
from .listed_names import check_listed_once, read_split

#: The eleven classes of Badrinarayanan et al. (SegNet) and their colours, in the order of the annotation's values.
_CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
CAMVID_LABELS = LabelSet(names=tuple(_CLASSES), palette=tuple(_CLASSES.values()))

#: Annotation value of pixels without a class.
_VOID = 11

_VALUES = LabelValues.plain(len(CAMVID_LABELS), ignored=(_VOID,))


#: Ending of images and annotations.
_ENDING = ".png"


class CamVid(FilePairs):
    """Reads the pairs that `root`/`split`.txt lists, one a line.

    A line is a stem, for `split`/STEM.png and `split`annot/STEM.png; the path of an image; or the paths of an image and
    of its annotation, as in SegNet's lists. Only as many last components of a path count as exist below `root`:
    /SegNet/CamVid/train/STEM.png is `root`/train/STEM.png. Annotation value 11 (void) becomes IGNORE_INDEX.

    Raises:
        OSError: `root` or the list is missing or unreadable; on access, as FilePairs.
        ValueError: a malformed or empty list; on access, as FilePairs.
    """

    label_set = CAMVID_LABELS

    def __init__(self, root: str | Path, split: str) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such directory (the root of CamVid)")
        path = root / f"{split}.txt"
        pairs = [_listed_pair(root, split, path, line) for line in read_split(path)]
        check_listed_once(path, [pair.name for pair in pairs])
        super().__init__(pairs)


def _listed_pair(root: Path, split: str, path: Path, line: str) -> FilePair:
    """Pair that one line of the list in `path` stands for."""
    words = line.replace("\\", "/").split()
    are_paths = all(word.endswith(_ENDING) for word in words)
    if len(words) == 1 and not are_paths and "/" not in line:
        words, are_paths = [f"{words[0]}{_ENDING}"], True
    if len(words) > 2 or not are_paths or any(".." in word.split("/") for word in words):
        raise ValueError(
            f"{path}: a line is the stem of an image, its path, or its path and that of its annotation (*{_ENDING}), "
            f"got {line!r}"
        )
    image = _below(root, root / split, words[0])
    annotations = root / f"{split}annot"
    labels = annotations / image.name if len(words) == 1 else _below(root, annotations, words[1])
    return FilePair(image.stem, image, labels, _VALUES)


def _below(root: Path, usual: Path, listed: str) -> Path:
    """Finds `listed` below `root` by as many of its last components as lead to a file; else it belongs in `usual`."""
    parts = [part for part in listed.split("/") if part not in ("", ".")]
    for first in range(len(parts)):
        path = root.joinpath(*parts[first:])
        if path.is_file():
            return path
    return usual / parts[-1]


CAMVID = DataSetKind("camvid", CamVid, label_set=CAMVID_LABELS, default_size=(360, 480))
