"""Damage in the files of torch.save: torch.load reads tensors without looking at their checksums."""

import zipfile
from pathlib import Path


def check_archive(path: Path) -> None:
    """Compares every checksum in the zip archive `path`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no archive, truncated, or damaged; the message names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:  # what zipfile raises for damaged headers
        raise ValueError(f"{path}: not a checkpoint, or a truncated one") from error
    if damaged is not None:
        raise ValueError(f"{path}: damaged checkpoint (checksum of {damaged})")
