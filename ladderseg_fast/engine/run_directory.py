"""What a training leaves behind, and where."""

import json
from pathlib import Path

from ..atomic_file import remove_leftovers


class RunDirectory:
    """The files of one run: `checkpoint`, `log`, `curve`, and the images in `overlays`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.jsonl"
        self.curve = path / "curve.png"
        self.overlays = path / "overlays"

    def create(self, overwrite: bool) -> None:
        """Makes the directory, clears the temporaries of a crashed run, and starts an empty log.

        An old checkpoint stays until a new one replaces it.

        Raises:
            FileExistsError: the directory holds a checkpoint, and `overwrite` is False.
            OSError: the directory cannot be made or written.
        """
        if self.checkpoint.exists() and not overwrite:
            raise FileExistsError(
                f"{self.path} holds a checkpoint already; choose another directory, or --overwrite it"
            )
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is not a directory")
        self.overlays.mkdir(parents=True, exist_ok=True)
        for directory in (self.path, self.overlays):
            remove_leftovers(directory)
        self.log.write_bytes(b"")

    def append_to_log(self, record: dict[str, object]) -> None:
        """Adds one line of JSON, complete in the file when this returns.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        try:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise OSError(f"cannot write {self.log}: {error.strerror}") from error
