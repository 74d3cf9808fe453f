"""Files of torch.save, read so that damage is an error and not other weights.

torch.load compares no checksums. It takes an entry of the zip archive whose attributes say "directory" for one without
content: the tensor is then whatever was in memory before.
"""

import errno
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .tensor_digest import tensors_in

#: Today's files of torch.save are zip archives.
_ZIP_MAGIC = b"PK\x03\x04"

#: Name, in torch's error, of an object that weights_only refuses to make.
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")

#: Flags of an archive's entry that torch.save sets: sizes follow the data, the name is UTF-8.
_KNOWN_FLAGS = 0x0808

#: MS-DOS's attribute of a directory, which torch's reader goes by.
_DIRECTORY = 0x10

#: Levels of lists and mappings in a file, at most.
_DEEPEST = 100

#: Bytes that tensors may have besides those in the file, by sharing or repeating elements.
_REPEATED = 1 << 30


def load_torch_file(path: Path) -> Any:
    """Content that torch.save wrote to `path`, on the CPU; nothing in the file is run (torch.load with weights_only).

    Files from before PyTorch 1.6 are no archives and have no checksums: only truncation is found in them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not from torch.save, is truncated or damaged, or holds other objects than tensors and
            plain values, or a tensor without values; the message names it.
    """
    sizes = None
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            sizes = _checked_records(path, file)
    content = _load(path)
    try:
        _check_extent(content, length)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, tensor in tensors_in(content):
        if tensor.is_meta or tensor.layout != torch.strided:
            kind = "on the meta device, without values" if tensor.is_meta else f"of layout {tensor.layout}"
            raise ValueError(f"{path}: {name or 'the tensor'} is {kind}; only dense tensors with values are read")
    if sizes is not None:
        _check_storages(path, content, sizes)
    return content


def _checked_records(path: Path, file: BinaryIO) -> list[int]:
    """Sizes of the records of tensors, after comparing all checksums and everything that torch's reader goes by."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            odd = _odd_entry(entries)
            if odd is None and sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
                raise ValueError("entries overlap")
            damaged = None if odd else archive.testzip()
    except Exception as error:  # damaged headers raise what zipfile documents, and errors of codecs, struct and zlib
        raise _damage(path, error, "not a checkpoint, or a damaged one") from error
    if odd is not None:
        raise ValueError(
            f"{path}: damaged checkpoint, or not of torch.save ({odd} is packed, encrypted, a directory or a duplicate)"
        )
    if damaged is not None:
        raise ValueError(f"{path}: damaged checkpoint (checksum of {damaged})")
    return [entry.file_size for entry in entries if entry.filename.partition("/")[2].startswith("data/")]


def _odd_entry(entries: list[zipfile.ZipInfo]) -> str | None:
    """Name of an entry that torch.save does not write so: packed, encrypted, a directory, one of two with the same
    name.
    """
    seen = Counter(entry.filename.lower() for entry in entries)  # torch's reader does not tell cases apart
    for entry in entries:
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        plain = not entry.is_dir() and not entry.external_attr & _DIRECTORY and not entry.flag_bits & ~_KNOWN_FLAGS
        if not stored or not plain or seen[entry.filename.lower()] > 1:
            return entry.filename
    return None


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise ValueError(f"{path}: not a checkpoint, or a damaged one") from error
        raise ValueError(
            f"{path}: holds {refused[1]}; only tensors are read, since making other objects may run code: "
            "save the state_dict alone"
        ) from error
    except Exception as error:  # torch.load documents no exceptions: zip's and its own occur
        raise _damage(path, error, f"not a checkpoint, or a damaged one ({type(error).__name__})") from error


def _check_extent(content: Any, length: int) -> None:
    """Raises ValueError if `content`, from a file of `length` bytes, is larger than such a file can describe.

    A list may hold another many times, and so on, or itself; a tensor may repeat its elements. A few bytes of a file
    then stand for more than anybody could go through or copy.
    """
    items, elements = 0, 0
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        items += 1
        if isinstance(value, torch.Tensor):
            elements += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            waiting += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += [(item, depth + 1) for item in value]
        if depth > _DEEPEST or items + len(waiting) > length:
            raise ValueError("not a checkpoint: lists in it hold themselves, or each other too often")
        if elements > length + _REPEATED:
            raise ValueError("not a checkpoint: its tensors repeat their elements too often")


def _damage(path: Path, error: Exception, message: str) -> Exception:
    """Error to raise for an `error` of reading: if the device failed, the file itself is not wrong."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a damaged offset
        return OSError(f"{path}: cannot be read ({error.strerror})")
    return ValueError(f"{path}: {message}")


def _check_storages(path: Path, content: Any, sizes: list[int]) -> None:
    """Raises ValueError unless every tensor's storage is as large as a record: older releases of torch do not check."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for _, tensor in tensors_in(content)}
    surplus = Counter(storage.nbytes() for storage in storages.values() if storage.nbytes()) - Counter(sizes)
    if surplus:
        raise ValueError(f"{path}: damaged checkpoint (it lacks a tensor of {min(surplus)} bytes)")
