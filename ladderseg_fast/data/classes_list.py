"""The names of classes alone, one a line."""

from pathlib import Path

from .label_set import LabelSet
from .label_values import LabelValues
from .voc import voc_colour

#: What labelme's lists begin with: a name for pixels without a class, which have the value 255.
_WITHOUT_CLASS = "__ignore__"


def read_classes_list(path: Path) -> tuple[LabelSet, LabelValues]:
    """Classes from a text file of their names, in the order of the label images' values; VOC's palette are the colours.

    255 is ignored. Empty lines, and __ignore__, which labelme's lists begin with, are no classes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, has no names, too many, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: names of classes in UTF-8, one a line, are expected") from error
    names = tuple(line.strip() for line in lines if line.strip() not in ("", _WITHOUT_CLASS))
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: two classes are called {name!r}")
    try:
        return LabelSet(names, tuple(voc_colour(k) for k in range(len(names)))), LabelValues.plain(len(names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
