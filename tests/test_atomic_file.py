"""Files that are whole or not there."""

import errno

import pytest

from ladderseg_fast import atomic_file as module
from ladderseg_fast.atomic_file import atomic_write, remove_leftovers


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"second, longer"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_old_file_stands_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_block_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, function):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(module.os, function, fail)
    with pytest.raises(OSError, match=r"cannot write .*file: No space left on device"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_data_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    for function in ("fsync", "replace"):
        original = getattr(module.os, function)
        monkeypatch.setattr(module.os, function, lambda *a, f=function, o=original: (calls.append(f), o(*a))[1])
    with atomic_write(tmp_path / "file") as file:
        file.write(b"data")
    assert calls == ["fsync", "replace", "fsync"]


def test_missing_directory(tmp_path):
    path = tmp_path / "none" / "file"
    with pytest.raises(OSError, match=r"cannot write .*none.file: No such file or directory"), atomic_write(path):
        pass


def test_only_leftovers_are_removed(tmp_path):
    for name in (".checkpoint.pt.123.partial", "checkpoint.pt", ".hidden", "mine.partial"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "checkpoint.pt", "mine.partial"]
