"""Frames of videos, by PyAV, which is optional."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..models.weights import MissingPackageError

#: Endings of the files that are read as videos.
VIDEO_ENDINGS = frozenset(
    (".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")
)
#: The last frame may begin this much before the end that the header announces: seconds, and mean frames besides.
_LAST_SECONDS, _LAST_FRAMES = 0.5, 2


def is_video(path: Path) -> bool:
    """Whether the name ends as a video's does."""
    return path.suffix.lower() in VIDEO_ENDINGS


def check_video_package() -> None:
    """Raises MissingPackageError if PyAV is not installed."""
    _av()


class VideoFacts(NamedTuple):
    """Facts that a video's header announces."""

    frames: int
    bits: int
    """Width of its widest channel."""


def read_facts(path: Path) -> VideoFacts:
    """Reads the header of `path`. A video that cannot be read counts as one frame of 8 bits.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    try:
        with _open(path) as container:
            stream = container.streams.video[0]
            frames = stream.frames or round(_seconds(container, stream) * float(stream.average_rate or 0))
            bits = max((component.bits for component in stream.codec_context.format.components), default=8)
    except (_av().FFmpegError, OSError, IndexError, AttributeError):  # without a format there is no decoder
        return VideoFacts(1, 8)
    return VideoFacts(max(1, frames), bits)


def frames_of(path: Path, every: int = 1) -> Iterator[tuple[int, np.ndarray | OSError]]:
    """Numbers, from 0, and pixels [H, W, 3] uint8 of every `every`-th frame, upright, of the first video stream.

    In place of a frame that is damaged there is an OSError; so there is after the last frame if the video cannot be
    read to the end that its header announces, or not at all.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    av = _av()
    number, packets, end = 0, 0, 0.0
    try:
        with _open(path) as container:
            if not container.streams.video:
                raise OSError("it has no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in _decoded(packet):
                    if number % every == 0:
                        damaged = frame is None or frame.is_corrupt
                        yield number, OSError(f"{path}: frame {number} is damaged") if damaged else _upright(frame)
                    number += 1
                    end = max(end, (frame and frame.time) or 0.0)
            if packets < stream.frames:
                raise OSError(f"it is cut short after {packets} of {stream.frames} frames")
            seconds = _seconds(container, stream)
            last = _LAST_SECONDS + _LAST_FRAMES / float(stream.average_rate or 1)
            if not stream.frames and end < seconds - last:
                raise OSError(f"it is cut short after {end:.1f} of {seconds:.1f} seconds")
            if not number:
                raise OSError("it has no frames")
    except (av.FFmpegError, OSError) as error:
        yield number, OSError(f"{path}: cannot read the video ({getattr(error, 'strerror', None) or error})")


def _open(path: Path) -> "av.InputContainer":  # type: ignore[name-defined]  # noqa: F821
    """Opens the file `path`."""
    if path.exists() and not path.is_file():
        raise OSError("not an ordinary file")  # the read of a pipe could not be interrupted
    return _av().open(f"file:{path}", metadata_errors="replace")  # 12:30.mp4 alone would begin with a protocol


def _decoded(packet: "av.Packet") -> "Sequence[av.VideoFrame | None]":  # type: ignore[name-defined]  # noqa: F821
    """Frames that `packet` completes; None in place of one that cannot be decoded."""
    try:
        return packet.decode()
    except _av().InvalidDataError:
        return [None]


def _seconds(container: "av.InputContainer", stream: "av.VideoStream") -> float:  # type: ignore[name-defined]  # noqa: F821
    """Length of the video that the header announces; 0 if it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):  # Matroska's
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
    # The longest stream's, else.
    return float(container.duration or 0) / _av().time_base if len(container.streams) == 1 else 0.0


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
