"""Images with label PNGs in folders of the usual layouts."""

from collections import Counter
from pathlib import Path

from .automatic_split import VAL_SHARE, check_split_seed, check_val_share, held_out
from .classes_file import read_classes
from .classes_list import read_classes_list
from .data_set_kind import DataSetKind, Option
from .file_pairs import FilePair, FilePairs
from .folder_layout import IMAGE_ENDINGS, entries, find_layout
from .label_set import LabelSet
from .label_values import LabelValues

_LABEL_ENDINGS = (".png",)
#: Endings, in small letters, that the name of a label image may have besides the name of its image.
LABEL_SUFFIXES = ("_annotation", "_gt", "_label", "_labels", "_mask", "_masks", "_seg")


class ImageFolder(FilePairs):
    """Reads `root`/images/`split`/NAME.jpg (or .png, ...) with `root`/labels/`split`/NAME.png.

    The folders may also be `split`/images and `split`/labels, or images and labels without splits, of which `held_out`
    chooses the validation split. `find_layout` knows more names of folders, LABEL_SUFFIXES more names of label images.
    Hidden files, and those that operating systems leave behind, are passed over. `read_classes` reads
    `root`/classes.toml; if there is none, `read_classes_list` reads classes.txt.

    Args:
        split: train, val or all where there are no splits, else any name of a folder.
        val_share, split_seed: see `held_out`.

    Raises:
        OSError: a folder or the classes file is missing or unreadable; on access, as FilePairs.
        ValueError: several folders could be meant; a folder is empty or holds something else than images and PNGs; two
            images share labels, or two label images an image; the classes file is malformed; on access, as FilePairs.
    """

    def __init__(self, root: str | Path, split: str, val_share: float = VAL_SHARE, split_seed: int = 0) -> None:
        root = Path(root)
        layout = find_layout(root, split)
        self.whole = layout.whole
        images = _images(layout.images)
        labels, suffix = _labels(layout.labels, images)
        self.label_set, values = _classes(root)
        self.classes_advice = (
            "write a classes.toml in place of classes.txt, with `ignore` and each class's `value`"
            if values.colours is None
            else "take it out of `ignore` and give the class its `value` in classes.toml"
        )
        # Labels without an image are broken pairs as well as images without labels: each names the file that lacks.
        names = sorted(images | labels)
        if layout.whole and split != "all":
            try:
                chosen = held_out(names, val_share, split_seed)
            except ValueError as error:
                raise ValueError(f"{root}: {error}") from error
            names = [name for name in names if (name in chosen) == (split == "val")]
        super().__init__(
            [
                FilePair(
                    name,
                    images.get(name, layout.images / f"{name}.*"),
                    labels.get(name, layout.labels / f"{name}{suffix}.png"),
                    values,
                )
                for name in names
            ]
        )


def _classes(root: Path) -> tuple[LabelSet, LabelValues]:
    """Reads classes.toml, or if there is none classes.txt."""
    file, names = root / "classes.toml", root / "classes.txt"
    return read_classes_list(names) if names.is_file() and not file.is_file() else read_classes(file)


def _images(folder: Path) -> dict[str, Path]:
    """Finds the images of `folder` by their names without the ending."""
    found: dict[str, Path] = {}
    for path in _files(folder, IMAGE_ENDINGS):
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path.name} would share one label image")
        found[path.stem] = path
    return found


def _labels(folder: Path, images: dict[str, Path]) -> tuple[dict[str, Path], str]:
    """Finds the label images of `folder` by the names of their images, and the suffix that most of them have."""
    found: dict[str, Path] = {}
    suffixes = Counter[str]()
    for path in _files(folder, _LABEL_ENDINGS):
        suffix = "" if path.stem in images else _suffix(path.stem)
        name = path.stem.removesuffix(suffix)
        if name in found:
            raise ValueError(f"{found[name]} and {path.name} are both called as labels of the image {name}")
        found[name] = path
        suffixes[suffix] += 1
    return found, suffixes.most_common(1)[0][0]


def _suffix(stem: str) -> str:
    """Returns the suffix of a label image that `stem` ends with, as it is written there, or nothing."""
    suffix = next((suffix for suffix in LABEL_SUFFIXES if stem.lower().endswith(suffix)), "")
    return stem[len(stem) - len(suffix) :]


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Lists `folder`, which must hold files with one of `endings` only."""
    files = entries(folder)
    for path in files:
        if path.suffix.lower() not in endings:
            jpeg = endings == _LABEL_ENDINGS and path.suffix.lower() in (".jpg", ".jpeg")
            advice = ": JPEG's compression changes the values, so export the labels as PNG" if jpeg else ""
            raise ValueError(f"{path}: only files that end in {', '.join(endings)} are expected here{advice}")
    if not files:
        raise ValueError(f"{folder}: the folder is empty")
    return files


FOLDER = DataSetKind(
    "folder",
    ImageFolder,
    options=(
        Option("val_share", float, VAL_SHARE, check=check_val_share, kept=True),
        Option("split_seed", int, 0, check=check_split_seed, kept=True),
    ),
)
