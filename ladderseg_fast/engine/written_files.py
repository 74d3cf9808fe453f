"""Files of a run's directory that the run wrote; any other file is the user's."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from .._version import __version__
from ..atomic_file import atomic_write

_HEADER = "files that a training with ladderseg_fast wrote"


class WrittenFiles:
    """List of names in the file `path`: one JSON object per line, added before the file that it names is written.

    A name is relative to the directory. A file that people edit is listed with its content's digest, so it counts as
    the run's only while it holds what the run wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, set[str]] | None = None
        self._in_file = False

    def exists(self) -> bool:
        """Whether a training wrote such a list."""
        return self._read() is not None and self._in_file

    def assume(self, files: Mapping[str, bytes | None]) -> None:
        """Makes `files`, with their contents if these matter, the list of this object, not of the file."""
        self._digests, self._in_file = _listed(files), False

    def begin(self, files: Mapping[str, bytes | None]) -> None:
        """Makes `files`, with their contents if these matter, the list, and writes it.

        Raises:
            OSError: it cannot be written.
        """
        self.assume(files)
        with atomic_write(self.path) as file:
            file.write(_line({"format": _HEADER, "version": __version__}))
            for name, digests in _listed(files).items():
                for more in [{"sha256": digest} for digest in digests] or [{}]:
                    file.write(_line({"file": name} | more))
        self._in_file = True

    def add(self, name: str, content: bytes | None = None) -> None:
        """Adds `name`, with its content if that matters, to a list that exists.

        Raises:
            OSError: it cannot be written.
        """
        known, record = self._read(), _record(name, content)
        assert known is not None and self._in_file, "the list is added to before it is begun"
        if name in known and ("sha256" not in record or record["sha256"] in known[name]):
            return
        try:
            with open(self.path, "r+b") as file:
                # In place of a last line that a process which was killed, or a full disk, left unfinished.
                file.truncate(file.seek(file.read().rfind(b"\n") + 1))
                file.write(_line(record))
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from error
        _enter(known, record)

    def names(self) -> list[str]:
        """Names of all listed files."""
        return list(self._read() or ())

    def wrote(self, name: str) -> bool:
        """Whether the run wrote the file that has this name now; a file that a link leads to never counts."""
        digests = (self._read() or {}).get(name)
        path = Path(name)
        if digests is None or path.is_absolute() or ".." in path.parts:
            return False
        # The list may have come with somebody else's run.
        places = [self.path.parent / part for part in (path, *path.parents[:-1])]
        # os.path, unlike pathlib, takes a name that no file can have for one that none has.
        if any(map(os.path.islink, places)) or not os.path.isfile(places[0]):
            return False
        return not digests or hashlib.sha256(places[0].read_bytes()).hexdigest() in digests

    def _read(self) -> dict[str, set[str]] | None:
        """Digests by name; None if there is no such list."""
        if self._digests is None and self.path.is_file() and not self.path.is_symlink():
            # The last line may have been left unfinished by a process that was killed.
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            self._digests, self._in_file = _digests(lines), True
        return self._digests


def _digests(lines: list[str]) -> dict[str, set[str]] | None:
    try:
        header, *records = map(json.loads, lines)
        if header["format"] != _HEADER:
            return None
        digests: dict[str, set[str]] = {}
        for record in records:
            _enter(digests, record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # it is something else
        return None
    return digests


def _listed(files: Mapping[str, bytes | None]) -> dict[str, set[str]]:
    digests: dict[str, set[str]] = {}
    for name, content in files.items():
        _enter(digests, _record(name, content))
    return digests


def _enter(digests: dict[str, set[str]], record: dict[str, str]) -> None:
    if not isinstance(record["file"], str):
        raise TypeError(f"a file's name is {record['file']!r}")
    known = digests.setdefault(record["file"], set())
    if "sha256" in record:
        known.add(record["sha256"])


def _record(name: str, content: bytes | None) -> dict[str, str]:
    return {"file": name} | ({} if content is None else {"sha256": hashlib.sha256(content).hexdigest()})


def _line(record: dict[str, str]) -> bytes:
    return json.dumps(record).encode() + b"\n"
