"""Frames of videos, by PyAV, which is optional."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from ..models.weights import MissingPackageError

#: Endings of the files that are read as videos.
VIDEO_ENDINGS = frozenset(
    (".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")
)


def is_video(path: Path) -> bool:
    """Whether the name ends as a video's does."""
    return path.suffix.lower() in VIDEO_ENDINGS


def check_video_package() -> None:
    """Raises MissingPackageError if PyAV is not installed."""
    _av()


def count_frames(path: Path, every: int = 1) -> int:
    """Number of the frames that frames_of gives, as far as the file's header tells; 1 if it cannot be read."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seconds = float(container.duration or 0) / av.time_base
            frames = stream.frames or round(seconds * float(stream.average_rate or 0))
    except (av.FFmpegError, OSError, IndexError):
        return 1
    return max(1, -(-frames // every))


def frames_of(path: Path, every: int = 1) -> Iterator[tuple[int, np.ndarray | OSError]]:
    """Numbers, from 0, and pixels [H, W, 3] uint8 of every `every`-th frame, upright, of the first video stream.

    If the video cannot be opened, or read to the end that it announces, the last entry is an OSError that says so.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    av = _av()
    number = packets = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                yield 0, OSError(f"{path}: the file has no video stream")
                return
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    if number % every == 0:
                        yield number, _upright(frame)
                    number += 1
            announced = stream.frames
    except (av.FFmpegError, OSError) as error:
        yield number, OSError(f"{path}: cannot read frame {number} ({getattr(error, 'strerror', None) or error})")
        return
    if packets < announced or not number:
        yield number, OSError(f"{path}: the file is cut short: it has {packets} of {announced} frames")


def _upright(frame: "av.VideoFrame") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    """Pixels, turned as the file says that a player should turn them."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingPackageError('reading a video needs PyAV: pip install "ladderseg_fast[video]"') from error
    return av
