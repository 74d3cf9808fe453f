"""Files of weights that hold less, or more, than they say: refused by name, without code being run or memory taken."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ladderseg_fast.models.pretrained import SavedModel, write_pretrained
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.models.weights.files import read_state_dict
from ladderseg_fast.torch_archive import load_torch_file


class Writes:
    """Object whose pickle makes the file `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def saved(content: object, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for read in (load_torch_file, read_state_dict):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_checkpoint_is_not_run(tmp_path, old):
    refused(tmp_path / "a.pt", saved({"a": Writes(tmp_path / "made")}, old), "holds .*open; only tensors are read")
    assert not (tmp_path / "made").exists()


def test_plain_pickle_is_not_run(tmp_path):
    refused(
        tmp_path / "a.pt", pickle.dumps(Writes(tmp_path / "made"), protocol=2), "not a checkpoint|only tensors are read"
    )
    assert not (tmp_path / "made").exists()


def test_lists_that_hold_each_other(tmp_path):
    """Of 2^60 items, in a file of a kilobyte."""
    nested: list = [torch.ones(1)]
    for _ in range(60):
        nested = [nested, nested]
    refused(tmp_path / "a.pt", saved({"a": nested}), "hold themselves, or each other too often")


def test_list_that_holds_itself(tmp_path):
    endless: list = []
    endless.append(endless)
    refused(tmp_path / "a.pt", saved(endless), "hold themselves")


def test_tensor_that_repeats_its_elements(tmp_path):
    """Of a terabyte, from one number; a small one is what some programs save."""
    refused(tmp_path / "a.pt", saved({"a": torch.zeros(1).expand(2**38)}), "repeat their elements too often")
    (tmp_path / "a.pt").write_bytes(saved({"a": torch.ones(1).expand(1000)}))
    assert torch.equal(read_state_dict(tmp_path / "a.pt")["a"], torch.ones(1000))


def test_zip_bomb(tmp_path):
    """Compressed entries, which torch.save does not write, are refused before they are unpacked."""
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(3)}))) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, bytes(10 << 20) if name.endswith("data/0") else content)
    refused(tmp_path / "a.pt", buffer.getvalue(), "is packed, encrypted, a directory or a duplicate")


def test_entries_that_overlap(tmp_path):
    """An entry within another one would be read many times (D. Fifield, A better zip bomb, 2019)."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data/1", bytes(1000))
    local = inner.getvalue()[: 30 + len("archive/data/1") + 1000]
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("archive/data/0", local)
        entry = zipfile.ZipInfo("archive/data/1")
        entry.header_offset, entry.CRC = 30 + len("archive/data/0"), zipfile.crc32(bytes(1000))
        entry.file_size = entry.compress_size = 1000
        archive.filelist.append(entry)
        archive.NameToInfo[entry.filename] = entry
    refused(tmp_path / "a.pt", outer.getvalue(), "not a checkpoint, or a damaged one")


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}},
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
    ],
)
def test_safetensors_that_announce_more_than_they_hold(tmp_path, header):
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(ValueError, match="not a safetensors file, or a damaged one") as caught:
        read_state_dict(path)
    assert str(caught.value).startswith(str(path))


def test_safetensors_with_a_giant_header(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + save({"a": torch.ones(1)})[8:])
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_state_dict(path)


def test_saved_model_of_giant_options(tmp_path):
    """They are compared with the tensors that are there before a model of that size is made."""
    path = tmp_path / "a.safetensors"
    options = {"num_classes": 250, "growth": 10**6}
    write_pretrained(path, SavedModel("LadderDenseNet", options, False, {"head.conv.weight": torch.ones(1)}))
    with pytest.raises(ValueError, match=r"a\.safetensors: its content does not fit LadderDenseNet"):
        SegmentationModel.from_pretrained(path)
