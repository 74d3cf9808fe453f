"""Files that are whole or not there."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ladderseg_fast import atomic_file as module
from ladderseg_fast.atomic_file import atomic_write, remove_leftovers


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(path, content):
    with atomic_write(path) as file:
        file.write(content)


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
    kept = [".hidden", ".mine.partial", ".other.pt.123.partial", "checkpoint.pt", "mine.partial"]
    for name in (".checkpoint.pt.123.partial", *kept):
        (tmp_path / name).touch()
    target = tmp_path / "target"
    target.touch()
    (tmp_path / ".checkpoint.pt.4.partial").symlink_to(target)
    (tmp_path / ".checkpoint.pt.5.partial").mkdir()
    remove_leftovers(tmp_path, lambda name: name == "checkpoint.pt")
    assert names(tmp_path) == sorted([*kept, "target", ".checkpoint.pt.4.partial", ".checkpoint.pt.5.partial"])


def test_name_that_leaves_no_room_for_a_temporary_one(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    with atomic_write(path) as file:
        file.write(b"data")
    assert (path.read_bytes(), names(tmp_path)) == (b"data", [path.name])


@pytest.mark.real_use
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_new_file_has_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as file:
            assert mode(next(tmp_path.iterdir())) == 0o666 & ~umask
            file.write(b"data")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o666 & ~umask


@pytest.mark.real_use
@pytest.mark.parametrize("permissions", [0o600, 0o664, 0o755, 0o400])
def test_file_that_is_replaced_leaves_its_permissions(tmp_path, permissions):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(permissions)
    with atomic_write(path) as file:
        # Nobody else may read the new data before it has its name, either.
        assert all(mode(entry) & ~permissions == 0 for entry in tmp_path.iterdir())
        file.write(b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", permissions)


@pytest.mark.real_use
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_file_that_is_replaced_leaves_its_owner(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    with atomic_write(path) as file:
        file.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.real_use
@pytest.mark.parametrize("there", [True, False])
def test_link_stays_and_its_target_is_replaced(tmp_path, there):
    target, path = tmp_path / "elsewhere" / "target", tmp_path / "file"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    (tmp_path / "between").symlink_to("elsewhere/target")
    path.symlink_to("between")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.is_symlink()
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert names(target.parent) == ["target"]
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"new"


@pytest.mark.real_use
def test_links_that_lead_to_each_other(tmp_path):
    (tmp_path / "file").symlink_to("other")
    (tmp_path / "other").symlink_to("file")
    with pytest.raises(OSError, match=r"cannot write .*file: Too many levels of symbolic links"):
        write(tmp_path / "file", b"data")
    assert names(tmp_path) == ["file", "other"]


@pytest.mark.real_use
def test_directory_is_refused_before_the_block(tmp_path):
    with pytest.raises(OSError, match="cannot write .*: Is a directory"), atomic_write(tmp_path):
        raise AssertionError


@pytest.mark.real_use
def test_pipe_gets_the_data(tmp_path):
    path, received = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    with atomic_write(path) as file:
        # As writers of archives do, which go back.
        file.write(b"..rough a pipe")
        file.seek(0)
        file.write(b"th")
    reader.join(timeout=10)
    assert received == [b"through a pipe"]
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError


@pytest.mark.real_use
def test_device_stays_a_device(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        open(path, "wb").close()
    except PermissionError:
        # Not with the machine's own: a failing test must not replace it.
        pytest.skip("devices cannot be made or opened here")
    write(path, b"data")
    assert stat.S_ISCHR(path.stat().st_mode)
    assert path.read_bytes() == b""


#: What a shell's `>`, `>>` and `|` give a process that prints before and after.
#: The module alone, as importing the package takes seconds.
PRINTS = """
import runpy
import sys
from pathlib import Path
atomic_write = runpy.run_path(sys.argv[1])["atomic_write"]
print("before")
with atomic_write(Path(sys.argv[2])) as file:
    file.write(b"data\\n")
print("after")
"""


@pytest.mark.real_use
def test_own_descriptor_is_written_where_it_is(tmp_path):
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(b"before ")
        write(Path(f"/proc/self/fd/{file.fileno()}"), b"data")
        file.write(b" after")
    assert (tmp_path / "file").read_bytes() == b"before data after"


@pytest.mark.real_use
@pytest.mark.parametrize("name", ["stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("how", ["file", "pipe"])
def test_standard_output(tmp_path, name, how):
    if name == "stdout":
        # As /dev/stdout is, which a failing test must not replace.
        (tmp_path / "dev").mkdir()
        name = str(tmp_path / "dev" / "stdout")
        os.symlink("/proc/self/fd/1", name)
    command = [sys.executable, "-c", PRINTS, module.__file__, name]
    if how == "pipe":
        text = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    else:
        (tmp_path / "out").write_bytes(b"first\n")
        with open(tmp_path / "out", "ab") as file:
            subprocess.run(command, stdout=file, check=True, timeout=60)
        text = (tmp_path / "out").read_bytes().removeprefix(b"first\n")
    assert text == b"before\ndata\nafter\n"
    assert not list(tmp_path.rglob(".*"))
    assert name.startswith("/dev") or os.path.islink(name)


@pytest.mark.real_use
@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_directory_that_cannot_be_forced_to_the_disk(tmp_path, monkeypatch, number, refused):
    """Some network file systems cannot do it for directories; a broken disk is another matter."""
    original = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if refused:
        with pytest.raises(OSError, match=r"cannot write .*file: Input/output error"):
            write(tmp_path / "file", b"data")
    else:
        write(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
