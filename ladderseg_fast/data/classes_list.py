"""The names of classes alone, one a line."""

from pathlib import Path

from .label_set import LabelSet
from .label_values import LabelValues
from .listed_names import read_lines
from .voc import voc_label_set

#: What labelme's lists begin with: a name for pixels without a class, which have the value 255.
_WITHOUT_CLASS = "__ignore__"


def read_classes_list(path: Path) -> tuple[LabelSet, LabelValues]:
    """Classes from a text file of their names, in the order of the label images' values; VOC's palette are the colours.

    255 is ignored. Empty lines, and __ignore__, which labelme's lists begin with, are no classes.

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
