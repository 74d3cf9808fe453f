"""Memory of a prediction in tiles: the same for any height of the image."""

import os
import threading
from pathlib import Path

import pytest
from support.processes import run_each
from support.tile_memory import WIDTH, label, peaks, write

LOW, TALL = 1024, 8192


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="the system does not let a process reset the record of its peak",
)
@pytest.mark.parametrize(("kind", "form"), [("npy", "npy"), ("png", "png"), ("tif", "tiff")])
def test_memory_does_not_grow_with_the_height(tmp_path: Path, kind: str, form: str) -> None:
    """In a process of its own: what others have left in memory may go meanwhile."""
    if kind == "tif":
        pytest.importorskip("tifffile")
    paths = []
    for name, height in {"low": LOW, "tall": TALL}.items():
        paths.append(tmp_path / f"{name}.{kind}")
        write(paths[-1], height)
    # The first prediction loads what is loaded once.
    ((_, low, tall),) = run_each(peaks, [([paths[0], *paths], form)])
    labels = WIDTH * TALL
    assert tall < low + labels // 2, f"{low / 2**20:.1f} and {tall / 2**20:.1f} MiB"


def test_no_thread_stays(tmp_path: Path) -> None:
    write(tmp_path / "low.npy", LOW)
    before = threading.active_count()
    label(tmp_path / "low.npy", "png")
    assert threading.active_count() == before
