"""Settings as tables of plain values, read from a TOML file and the command line, merged and checked."""

import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._version import __version__
from ..shortened import shortened
from .config import Config, setting_types
from .git_revision import GitRevision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Keys that say one thing in two ways: a layer that sets one takes back the other of the layers below.
_ALTERNATIVES = (("training.steps", "training.epochs"), ("model.weights", "training.init_from"))

#: Whole numbers from here on are slips of the pen, and of no use to arithmetic in 64 bits.
_TOO_LARGE = 2**63
#: Characters of a value that a message quotes.
_LONGEST = 100
#: Characters of a text, at most; a path of Linux has as many.
_LONGEST_TEXT = 4096


@dataclass(frozen=True)
class Layer:
    """Some settings and the name of their source, for messages."""

    source: str
    values: Mapping[str, object]
    """Values by dotted key, such as "training.batch"; None resets a setting to its default."""


def read_config_file(path: Path) -> Layer:
    """Settings in a TOML file.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the file is not TOML, or has a key outside the sections.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise OSError(f"{path}: cannot read the configuration file ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # of TOML, Unicode, or a number of thousands of digits
        raise ValueError(f"{path}: not a TOML file ({error})") from error
    values: dict[str, object] = {}
    for section, table in tables.items():
        _check_name(str(path), section, list(setting_types()), "section")
        if not isinstance(table, dict):
            raise ValueError(f"{path}: {section} must be a section, [{section}]")
        values |= {f"{section}.{key}": value for key, value in table.items()}
    return Layer(str(path), values)


def parse_assignments(texts: Sequence[str]) -> Layer:
    """Settings from texts `section.key=value`, with values as in TOML.

    Quotes around a string may be left out. An empty value resets the setting to its default.

    Raises:
        ValueError: a text has no key; the message quotes it.
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise ValueError(f"--set expects SECTION.KEY=VALUE, got {text!r}")
        values[key.strip()] = _parse_value(value.strip())
    return Layer("--set", values)


def build_config(layers: Sequence[Layer]) -> Config:
    """Settings of all `layers`, the later ones overriding the earlier; all other settings have their defaults.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type or is out of range; the message names the key.
    """
    sections = setting_types()
    tables: dict[str, dict[str, object]] = {section: {} for section in sections}
    for layer in layers:
        for key in layer.values:
            for pair in _ALTERNATIVES:
                if key in pair and layer.values[key] is not None:
                    _drop(tables, pair[1 - pair.index(key)])
        for key, value in layer.values.items():
            section, name = key.split(".", 1)
            _check_name(layer.source, section, list(sections), "section")
            _check_name(layer.source, name, list(sections[section]), "key", f"{section}.")
            if value is None:
                _drop(tables, key)
            else:
                tables[section][name] = _convert(layer.source, key, value, sections[section][name])
    return Config.from_tables(tables)


def config_text(config: Config, revision: GitRevision | None) -> str:
    """Content of a run's config.toml: all settings, and comments about what they were used with."""
    return settings_text(config.as_tables(), __version__, revision)


def settings_text(tables: Mapping[str, Mapping[str, object]], version: str, revision: GitRevision | None) -> str:
    """Text of a configuration with the sections `tables`, written by the release `version`."""
    where = f"in a working directory at git revision {revision}" if revision else "in no git repository"
    return f"# Settings of a training with ladderseg_fast {version}, {where}.\n\n{format_toml(tables)}"


def format_toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """TOML of sections whose values are numbers, strings, truth values, lists of these, or None.

    TOML has no None: such a key is left out, and a comment says so.
    """
    parts = []
    for section, table in tables.items():
        lines = [f"# {key} is not set" if value is None else f"{key} = {_toml(value)}" for key, value in table.items()]
        parts.append("\n".join([f"[{section}]", *lines]) + "\n")
    return "\n".join(parts)


def _drop(tables: dict[str, dict[str, object]], key: str) -> None:
    section, name = key.split(".", 1)
    tables[section].pop(name, None)


def _check_name(source: str, name: str, known: Sequence[str], what: str, prefix: str = "") -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; is {prefix}{close[0]} meant?" if close else f"; there are {', '.join(known)}"
        raise ValueError(f"{source}: unknown {what} {prefix}{shortened(name, _LONGEST)}{hint}")


def _parse_value(text: str) -> object:
    """Value of a TOML text, or the text itself if it is no TOML; None if it is empty."""
    if not text:
        return None
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
        return text
    return table["value"] if table.keys() == {"value"} else text


def _convert(source: str, key: str, value: object, kind: object) -> object:
    """`value` as one of the types that `kind` names."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        converted = _converted(value, option)
        if isinstance(converted, str) and len(converted) > _LONGEST_TEXT:
            raise ValueError(f"{source}: {key} has {len(converted)} characters, at most {_LONGEST_TEXT} are read")
        if converted is not None:
            return converted
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise ValueError(f"{source}: {key} must be below 2^63, got {_shown(value)}")
    expected = " or ".join(_NAMES[option] for option in options if option is not types.NoneType)
    raise ValueError(f"{source}: {key} must be {expected}, got {_shown(value)}")


def _converted(value: object, kind: object) -> object:
    """`value` as a `kind`, or None if it is of another type. A whole number is a number, too."""
    if typing.get_origin(kind) is tuple:
        item, rest = typing.get_args(kind)
        if not isinstance(value, list | tuple) or (rest is not ... and len(value) != 2):
            return None
        items = [_converted(element, item) for element in value]
        return None if None in items else tuple(items)
    if kind is float and type(value) is int:
        return float(value) if abs(value) < _TOO_LARGE else None
    if kind is int and type(value) is int and abs(value) >= _TOO_LARGE:
        return None
    return value if type(value) is kind else None


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple[int, int]: "a list of two whole numbers",
    tuple[float, float]: "a list of two numbers",
    tuple[float, ...]: "a list of numbers",
    tuple[str, ...]: "a list of strings",
}


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return f"a number of about {round(value.bit_length() * math.log10(2)) or 1} digits"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    text = _toml(value) if isinstance(value, bool | int | float | str) else str(value)
    return shortened(text, _LONGEST)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    text = str(value)
    if not text.isascii() and any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise ValueError(f"{text!r} cannot be written to a TOML file: it is not Unicode text")
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
