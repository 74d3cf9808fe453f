"""File of a folder's classes: names, colours, and values in the label images."""

import sys
from pathlib import Path
from typing import Any

from ..shortened import shortened
from .label_colours import LabelColours
from .label_set import IGNORE_INDEX, LabelSet
from .label_values import LabelValues

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TOP_KEYS, _CLASS_KEYS = {"ignore", "ignore_colours", "classes"}, {"name", "colour", "value"}

#: Characters of a value that a message quotes.
_LONGEST = 100


def read_classes(path: Path) -> tuple[LabelSet, LabelValues]:
    """Reads the classes, and the meanings of the values in label images, from TOML such as

        ignore = [255]              # values that count nowhere; this is the default
        ignore_colours = []         # likewise, in RGB label images

        [[classes]]                 # class 0
        name = "road"
        colour = [128, 64, 128]
        value = 7                   # in the label images; default: the class's number

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not TOML, a key is missing, unknown or of a wrong type, a number is out of range, two
            classes share a name or a value, or an ignored colour is a class's.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file (names, colours and values of the classes; a classes.txt of names alone would do)"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of TOML or of UTF-8, or nested too deep
        raise ValueError(f"{path}: not TOML ({error})") from error
    try:
        return _parse(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(content: dict[str, Any]) -> tuple[LabelSet, LabelValues]:
    _check_keys("the file", content, required={"classes"}, known=_TOP_KEYS)
    ignored = content.get("ignore", [IGNORE_INDEX])
    if not _is_list_of(int, ignored):
        raise ValueError(f"ignore must be a list of whole numbers, got {_shown(ignored)}")
    entries = content["classes"]
    if not _is_list_of(dict, entries):
        raise ValueError("classes must be tables, each under [[classes]]")
    values: dict[int, int] = {}
    for k, entry in enumerate(entries):
        value = _check_class(k, entry)
        if value in values:
            raise ValueError(f"classes {values[value]} and {k} share the value {value}")
        values[value] = k
    names = tuple(entry["name"] for entry in entries)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two classes are called {_shown(name)}")
    label_set = LabelSet(names, tuple(tuple(entry["colour"]) for entry in entries))
    ignored_colours = content.get("ignore_colours", [])
    if not _is_list_of(list, ignored_colours) or not all(_is_list_of(int, colour) for colour in ignored_colours):
        raise ValueError(f"ignore_colours must be a list of colours, got {_shown(ignored_colours)}")
    colours = LabelColours(label_set, [tuple(colour) for colour in ignored_colours])
    return label_set, LabelValues(values, ignored, colours)


def _check_class(k: int, entry: dict[str, Any]) -> int:
    """Returns the value of class `k` in the label images."""
    _check_keys(f"class {k}", entry, required={"name", "colour"}, known=_CLASS_KEYS)
    if not isinstance(entry["name"], str) or not entry["name"].strip():
        raise ValueError(f"class {k}: name must be a text, got {_shown(entry['name'])}")
    if not _is_list_of(int, entry["colour"]):
        raise ValueError(f"class {k}: colour must be three numbers from 0 to 255, got {_shown(entry['colour'])}")
    value = entry.get("value", k)
    if not _is_int(value):
        raise ValueError(f"class {k}: value must be a whole number, got {_shown(value)}")
    return value


def _check_keys(what: str, table: dict[str, Any], required: set[str], known: set[str]) -> None:
    for key in sorted(required - set(table)):
        raise ValueError(f"{what} has no key {key!r}")
    for key in sorted(set(table) - known):
        raise ValueError(f"{what} has an unknown key {_shown(key)}; known are {', '.join(sorted(known))}")


def _is_list_of(kind: type, value: object) -> bool:
    if not isinstance(value, list):
        return False
    return all(_is_int(item) if kind is int else isinstance(item, kind) for item in value)


def _shown(value: object) -> str:
    """`value` as it is quoted in a message: its beginning, if it is long."""
    return shortened(repr(value), _LONGEST)


def _is_int(value: object) -> bool:
    """Whether `value` is a whole number: in TOML, unlike in Python, truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool)
