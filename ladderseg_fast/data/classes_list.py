"""List of the names of classes, one a line."""

from pathlib import Path

from .label_set import LabelSet
from .label_values import LabelValues
from .listed_names import read_lines
from .voc import voc_label_set

#: What labelme's lists begin with: a name for pixels without a class, which have the value 255.
_WITHOUT_CLASS = "__ignore__"


def read_classes_list(path: Path) -> tuple[LabelSet, LabelValues]:
    """Reads the names of the classes, in the order of their values in label images; their colours are VOC's palette.

    The value 255 is ignored. Empty lines, and the line __ignore__ that labelme's lists begin with, are no classes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, has no names, too many, or one twice.
    """
    lines = read_lines(path, "names of classes in UTF-8, one a line, are expected")
    names = tuple(line for line in lines if line != _WITHOUT_CLASS)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: two classes are called {name!r}")
    try:
        return voc_label_set(names), LabelValues.plain(len(names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
