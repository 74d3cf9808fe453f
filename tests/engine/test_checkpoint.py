"""Checkpoints: what goes in comes out, and what is damaged is refused."""

import errno
import pickle
import subprocess
from dataclasses import replace

import pytest
import torch
from support.damaged_files import check_damage, cuts, flips

from ladderseg_fast.engine import RunDirectory, build_model, load_checkpoint, save_checkpoint
from ladderseg_fast.engine import checkpoint as module
from ladderseg_fast.torch_archive import load_torch_file


@pytest.fixture
def saved(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    return path


def test_round_trip(saved, checkpoint):
    loaded = load_checkpoint(saved)
    assert replace(loaded, state={}) == replace(checkpoint, state={})
    assert loaded.state.keys() == checkpoint.state.keys()
    assert all(torch.equal(loaded.state[name], tensor) for name, tensor in checkpoint.state.items())


def test_model_predicts_what_it_predicted(saved, checkpoint):
    images = torch.randn(1, 3, 64, 96)
    before = build_model(checkpoint, torch.device("cpu"))
    after = build_model(load_checkpoint(saved), torch.device("cpu"))
    assert not after.training
    assert torch.equal(after(images).logits, before(images).logits)


class FullDisk:
    """A file that takes `room` bytes and then fails as a full disk does."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1_000_000])
def test_full_disk_leaves_the_previous_checkpoint(saved, checkpoint, monkeypatch, room):
    original = torch.save
    monkeypatch.setattr(module.torch, "save", lambda content, file: original(content, FullDisk(file, room)))
    with pytest.raises(OSError, match=r"cannot write .*checkpoint\.pt: No space left on device"):
        save_checkpoint(saved, replace(checkpoint, step=13))
    assert load_checkpoint(saved).step == 12
    assert [path.name for path in saved.parent.iterdir()] == ["checkpoint.pt"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MiB, which is filled for real."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_disk_that_is_full(small_disk, checkpoint):
    path = small_disk / "checkpoint.pt"
    # 39 MiB: there is no room for a second one before the first is replaced.
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"cannot write .*checkpoint\.pt: No space left on device"):
        save_checkpoint(path, replace(checkpoint, step=13))
    assert path.read_bytes() == before
    assert load_checkpoint(path).step == 12
    assert [file.name for file in small_disk.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_fails_is_no_damaged_checkpoint(saved, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match=rf"{saved}: cannot be read \(Input/output error\)"):
        load_checkpoint(saved)


def test_a_tensor_that_the_file_does_not_hold(tmp_path, monkeypatch):
    """Older releases of torch leave memory as it is where a record is too short."""
    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: {"weight": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"a\.pt: damaged checkpoint \(it lacks a tensor of 20 bytes\)"):
        load_torch_file(tmp_path / "a.pt")


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.999])
def test_truncated(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint, or a damaged one"):
        load_checkpoint(saved)


def test_one_wrong_bit_in_a_weight(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged checkpoint \(checksum of"):
        load_checkpoint(saved)


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    torch.save({"format": Touch(trace)}, path, pickle_module=pickle)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: holds io\.open; only tensors are read"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": torch.zeros(2)}])
def test_another_programs_file(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint of ladderseg$"):
        load_checkpoint(path)


def test_later_format(saved):
    content = torch.load(saved, weights_only=True)
    torch.save(content | {"version": 4}, saved)
    with pytest.raises(ValueError, match="checkpoint format 4, this release reads 1 to 3"):
        load_checkpoint(saved)


def test_format_1_is_still_read(saved, checkpoint):
    content = torch.load(saved, weights_only=True)
    for key in ("model", "config", "training_state"):
        del content[key]
    training = {"seed": 3, "size": [64, 96]}
    torch.save(content | {"version": 1, "backbone": "densenet121", "training": training}, saved)
    loaded = load_checkpoint(saved)
    assert replace(loaded, state={}) == replace(checkpoint, state={}, config=training)
    images = torch.randn(1, 3, 64, 96)
    models = [build_model(c, torch.device("cpu")) for c in (loaded, checkpoint)]
    assert torch.equal(models[0](images).logits, models[1](images).logits)


def test_directory_of_a_run(tmp_path, checkpoint):
    run = RunDirectory(tmp_path / "run")
    run.create(overwrite=False)
    with pytest.raises(FileNotFoundError, match=r"run: there is neither best\.pt nor last\.pt"):
        load_checkpoint(run.path)
    save_checkpoint(run.last, checkpoint)
    assert load_checkpoint(run.path).step == 12
    save_checkpoint(run.best, replace(checkpoint, step=7))
    assert load_checkpoint(run.path).step == 7


def test_incomplete(saved):
    content = torch.load(saved, weights_only=True)
    del content["palette"]
    torch.save(content, saved)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: incomplete checkpoint \('palette'\)"):
        load_checkpoint(saved)


def test_state_of_another_model(checkpoint):
    with pytest.raises(ValueError, match="weights of ladder_densenet169 do not fit the model"):
        build_model(replace(checkpoint, model="ladder_densenet169"), torch.device("cpu"))


@pytest.fixture
def small(tmp_path, checkpoint):
    """A file of a few kilobytes, of no real model."""
    path = tmp_path / "small.pt"
    state = {"norm.weight": torch.randn(5), "conv.weight": torch.randn(2, 3, 1, 1), "count": torch.tensor(3)}
    training_state = {"learner": {"optimizer": {"state": {0: {"exp_avg": torch.randn(5)}}}}, "batches": 3, "losses": []}
    training_state |= {"images": 4, "threads": 1, "random": {}}
    save_checkpoint(path, replace(checkpoint, state=state, training_state=training_state))
    return path


def read_all(path):
    loaded = load_checkpoint(path)
    return {"state": loaded.state, "training_state": loaded.training_state}


@pytest.mark.real_use
@pytest.mark.parametrize("released", [True, False], ids=["0.1", "now"])
def test_flipped_bits_and_cuts(small, released):
    """Also of a file without a digest, as release 0.1 wrote it."""
    if released:
        content = torch.load(small, weights_only=True)
        del content["digest"]
        torch.save(content, small)
    data = small.read_bytes()
    directory = data.index(b"PK\x01\x02")
    refused, right = check_damage(small, read_all, [*flips(data, 200, directory), *cuts(data, 30)])
    assert refused > 300 and right > 50


@pytest.mark.real_use
def test_record_called_a_directory(small):
    """torch.load takes it for one without content, and the tensor is what was in memory before."""
    data = bytearray(small.read_bytes())
    name = data.rindex(b"/data/0", data.index(b"PK\x01\x02"))
    data[data.rindex(b"PK\x01\x02", 0, name) + 38] ^= 0x10
    small.write_bytes(data)
    with pytest.raises(ValueError, match=r"small\.pt: damaged checkpoint.*data/0"):
        load_checkpoint(small)


@pytest.mark.real_use
def test_other_tensors_than_were_written(small):
    """The digest does not rest on what the archive says of itself."""
    content = torch.load(small, weights_only=True)
    content["training_state"]["learner"]["optimizer"]["state"][0]["exp_avg"][3] += 1e-6
    torch.save(content, small)
    with pytest.raises(ValueError, match=r"small\.pt: damaged checkpoint \(its tensors are not those"):
        load_checkpoint(small)


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("state", 5, "state is of type int"),
        ("state", {"conv0.weight": [1.0]}, "state/conv0.weight is of type list"),
        ("state", {3: torch.ones(1)}, "a name in state is of type int"),
        ("state", None, "state is of type NoneType"),
        ("step", "12", "step is of type str"),
        ("step", -1, "step -1"),
        ("model", None, "model is of type NoneType"),
        ("memory", 5, "memory is of type int"),
        ("palette", 3, "palette is of type int"),
        ("palette", [[1, 2, "3"]] * 3, "palette/2 is of type str"),
        ("class_names", "sky", "class_names is of type str"),
        ("class_names", ["sky", "road"], "2 class names but 3 colours"),
        ("size", [64], "size"),
        ("size", [64, 0], "size"),
        ("mean", [0.5, 0.5], "mean"),
        ("std", [0.5, 0.5, 0.0], "std"),
        ("config", [], "config is of type list"),
        ("training_state", 7, "training_state is of type int"),
        ("training_state", {}, "training_state/learner|'learner'"),
        ("training_state", {"learner": 1}, "training_state/learner is of type int"),
    ],
)
def test_edited_by_hand(small, key, value, message):
    content = torch.load(small, weights_only=True)
    del content["digest"]
    torch.save(content | {key: value}, small)
    with pytest.raises(ValueError, match=rf"small\.pt: incomplete checkpoint .*({message})"):
        load_checkpoint(small)


@pytest.mark.real_use
@pytest.mark.parametrize("tensor", [torch.ones(5, device="meta"), torch.ones(5).to_sparse()], ids=["meta", "sparse"])
def test_tensors_without_values(small, tensor):
    content = torch.load(small, weights_only=True)
    content["state"]["norm.weight"] = tensor
    torch.save(content, small)
    with pytest.raises(ValueError, match=r"small\.pt: state/norm\.weight is (on the meta device|of layout)"):
        load_checkpoint(small)


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((3,), 1e300, dtype=torch.float64), r"too large: head\.conv\.bias for torch\.float32"),
        (torch.ones(3).to(torch.float8_e4m3fn), r"of another kind: head\.conv\.bias torch\.float8_e4m3fn"),
        (torch.ones(3, dtype=torch.int64), r"of another kind: head\.conv\.bias torch\.int64"),
        (torch.ones(3, dtype=torch.complex64), r"of another kind: head\.conv\.bias torch\.complex64"),
        (torch.ones(4), r"of another shape: head\.conv\.bias \[4\] instead of \[3\]"),
    ],
)
def test_values_that_the_model_cannot_hold(saved, checkpoint, tensor, message):
    save_checkpoint(saved, replace(checkpoint, state=checkpoint.state | {"head.conv.bias": tensor}))
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: weights of ladder_densenet121 do not fit.*{message}"):
        build_model(load_checkpoint(saved), torch.device("cpu"))


@pytest.mark.real_use
def test_unknown_model_is_reported_with_the_file(saved, checkpoint):
    save_checkpoint(saved, replace(checkpoint, model="ladder_vit"))
    with pytest.raises(ValueError, match=r"checkpoint\.pt: the model must be one of"):
        build_model(load_checkpoint(saved), torch.device("cpu"))


@pytest.mark.real_use
def test_damaged_checkpoint_of_a_run_names_the_other_one(tmp_path, checkpoint):
    run = RunDirectory(tmp_path / "run")
    run.create(overwrite=False)
    run.best.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"best\.pt: not a checkpoint, or a damaged one$"):
        load_checkpoint(run.path)
    save_checkpoint(run.last, checkpoint)
    with pytest.raises(ValueError, match=r"best\.pt: not a checkpoint, .*; .*last\.pt is the other checkpoint of this"):
        load_checkpoint(run.path)
