"""Short videos for tests; they need PyAV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "mpeg4",
    form: str = "yuv420p",
    rotation: int = 0,
    rate: int = 10,
) -> None:
    """Writes `frames` [H, W, 3] uint8, `rate` a second; a player turns them counterclockwise by `rotation` degrees."""
    av = pytest.importorskip("av", reason="videos are read by PyAV, an optional dependency")
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, form, 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def grey_frames(count: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Frames of one grey value each, ten times their number."""
    return [np.full((*size, 3), 10 * number, np.uint8) for number in range(count)]
