"""Kernels from the cache run with the user's rights: only what this user wrote, and as it was written, is loaded."""

import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ladderseg_fast.cuda import image_cache
from ladderseg_fast.cuda.image_cache import load, store

ENTRY = "toy.sm_80.0123"

#: Only root can give a file to another user.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to give files to another user")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in its usual place, below the user's directory for caches."""
    monkeypatch.delenv("LADDERSEG_FAST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image_cache, "_warned", False)
    return tmp_path / "ladderseg_fast"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_and_entries_are_the_users_alone(cache):
    before = os.umask(0)
    try:
        store(ENTRY, b"image")
    finally:
        os.umask(before)
    assert (mode(cache), mode(cache / ENTRY)) == (0o700, 0o600)
    assert load(ENTRY) == b"image"


@pytest.mark.parametrize("change", ["flip", "other", "cut", "longer", "empty"])
def test_changed_entry_is_not_loaded(cache, change):
    store(ENTRY, b"image")
    content = (cache / ENTRY).read_bytes()
    changed = {
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "other": content[:-5] + b"IMAGE",
        "cut": content[:-1],
        "longer": content + b"x",
        "empty": b"",
    }
    (cache / ENTRY).write_bytes(changed[change])
    assert load(ENTRY) is None
    store(ENTRY, b"image")
    assert load(ENTRY) == b"image"


def test_directory_of_an_earlier_release_is_closed_to_others(cache):
    cache.mkdir()
    cache.chmod(0o777)
    store(ENTRY, b"image")
    assert mode(cache) == 0o755 and load(ENTRY) == b"image"


@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_chosen_directory_that_others_may_write_to_is_refused(tmp_path, monkeypatch, bits):
    chosen = tmp_path / "chosen"
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(chosen))
    store(ENTRY, b"image")
    assert load(ENTRY) == b"image"
    chosen.chmod(0o700 | bits)
    with pytest.warns(RuntimeWarning, match=f"other users may write to {chosen}"):
        assert load(ENTRY) is None
    store("second", b"image")
    assert not (chosen / "second").exists() and mode(chosen) == 0o700 | bits


def test_entry_that_others_may_write_to_is_refused(cache):
    store(ENTRY, b"image")
    (cache / ENTRY).chmod(0o666)
    with pytest.warns(RuntimeWarning, match=f"other users may write to {cache / ENTRY}"):
        assert load(ENTRY) is None


@needs_root
def test_directory_of_another_user_is_refused(cache):
    store(ENTRY, b"image")
    os.chown(cache, 12345, -1)
    with pytest.warns(RuntimeWarning, match=f"{cache} is of the user with the number 12345"):
        assert load(ENTRY) is None
    store("second", b"image")
    assert not (cache / "second").exists()


@needs_root
def test_entry_of_another_user_is_refused(cache):
    store(ENTRY, b"image")
    os.chown(cache / ENTRY, 12345, -1)
    with pytest.warns(RuntimeWarning, match="is of the user with the number 12345"):
        assert load(ENTRY) is None


def test_entry_that_is_a_link_is_not_followed(cache, tmp_path):
    store(ENTRY, b"image")
    (cache / ENTRY).rename(tmp_path / "elsewhere")
    (cache / ENTRY).symlink_to(tmp_path / "elsewhere")
    assert load(ENTRY) is None
    store(ENTRY, b"other")
    assert load(ENTRY) == b"other" and not (cache / ENTRY).is_symlink()
    assert b"image" in (tmp_path / "elsewhere").read_bytes(), "what the link led to is as it was"


def test_pipe_in_place_of_an_entry_does_not_keep_anybody_waiting(cache):
    cache.mkdir(mode=0o700)
    os.mkfifo(cache / ENTRY)
    assert load(ENTRY) is None


def test_processes_that_write_one_entry_at_once(cache):
    """A reader sees one of the images as a whole, or none, and no temporary file is left."""
    # The file by itself: the package would take seconds to import.
    code = f"""
import runpy
cache = runpy.run_path({image_cache.__file__!r})
for i in range(200):
    cache["store"]({ENTRY!r}, bytes([i]) * 5000)
    image = cache["load"]({ENTRY!r})
    assert image == bytes([image[0]]) * 5000
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(process.poll() is None for process in processes):
            image = load(ENTRY)
            assert image is None or image == bytes([image[0]]) * 5000
    assert [process.returncode for process in processes] == [0, 0]
    assert [path.name for path in cache.iterdir()] == [ENTRY]
