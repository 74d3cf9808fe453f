"""Text files that list names, one a line."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def read_stems(path: Path) -> list[str]:
    """Reads a list of file stems.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the list is empty, no text, names a stem twice, or a line is no stem.
    """
    stems = read_split(path)
    for stem in stems:
        if "/" in stem or "\\" in stem or " " in stem:
            raise ValueError(f"{path}: one file stem a line is expected, got {stem!r}")
    check_listed_once(path, stems)
    return stems


def read_split(path: Path) -> list[str]:
    """Reads the list of a split's images: its lines as read_lines has them, at least one.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the list is empty or no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (the list of the split's images)")
    lines = read_lines(path, "a list of file stems in UTF-8 is expected")
    if not lines:
        raise ValueError(f"{path}: the list is empty")
    return lines


def read_lines(path: Path, expected: str) -> list[str]:
    """Reads the lines of a text file, without empty ones and without white space around them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8; the message says what is `expected`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {expected}") from error
    return [line.strip() for line in lines if line.strip()]


def check_listed_once(path: Path, names: Sequence[str]) -> None:
    """Raises ValueError if the list in `path` has one of `names` twice."""
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: {twice} is listed twice")
