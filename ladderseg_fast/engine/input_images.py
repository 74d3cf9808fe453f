"""Images that a prediction is asked for, and the paths of their results."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..data import RGB, ImageForm, check_image_size, read_image
from .tiled.zarr_windows import is_zarr
from .video import frames_of, is_video

#: Formats that Pillow opens only to say that it cannot read them, and the one for which it would run a program.
_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "EPS")

#: Digits of a frame's number, at least.
_FRAME_DIGITS = 6
#: The directory of a pattern is what stands before its first part with one of these.
_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class InputImage:
    """An image file, or a video, and the beginning of its results' paths."""

    path: Path
    result: Path

    @property
    def is_video(self) -> bool:
        """Whether it is one."""
        return is_video(self.path)

    def output(self, ending: str) -> Path:
        """Path of the result whose name ends with `ending`, such as "_labels.png"."""
        return self.result.with_name(self.result.name + ending)

    def has_results(self, endings: Collection[str]) -> bool:
        """Whether its results whose names end with `endings` are all there."""
        return all(self.output(ending).exists() for ending in endings)

    def read(self, form: ImageForm, least: int) -> np.ndarray:
        """Pixels [H, W, bands] of the form `form`.

        Raises:
            OSError, ValueError: the image cannot be used, or a side of it is below `least`.
            MissingPackageError: it needs a package that is not installed.
        """
        pixels = read_image(self.path, form)
        check_image_size(self.path, pixels.shape[:2], least)
        return pixels

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class InputFrame(InputImage):
    """One frame of a video, or why the video ends there."""

    number: int
    content: np.ndarray | OSError

    def read(self, form: ImageForm, least: int) -> np.ndarray:
        """Pixels as InputImage gives them; raises what ended the video."""
        if isinstance(self.content, OSError):
            raise self.content
        if form != RGB:
            raise ValueError(f"{self.path}: {form} are expected, but the frames of a video are {RGB}")
        check_image_size(self.path, self.content.shape[:2], least)
        return self.content

    def __str__(self) -> str:
        return f"{self.path} frame {self.number}"


@dataclass
class InputImages:
    """Result of find_images.

    others: files of directories and patterns whose names are not those of images; `unread` are directories that cannot
    be read, and why.
    """

    images: list[InputImage]
    others: int = 0
    unread: list[str] = field(default_factory=list)

    @property
    def has_videos(self) -> bool:
        """Whether one of the files is a video."""
        return any(image.is_video for image in self.images)


def pictures(images: Sequence[InputImage], every: int = 1) -> Iterator[InputImage]:
    """The images, and in place of each video its frames 0, `every`, 2 * `every` and so on.

    Frame 123 of VIDEO.mp4 has results that begin with VIDEO_000123. If a video cannot be read to its end, its last
    frame is one whose `read` says so.
    """
    for image in images:
        if not image.is_video:
            yield image
            continue
        for number, content in frames_of(image.path, every):
            yield InputFrame(image.path, image.output(f"_{number:0{_FRAME_DIGITS}}"), number, content)


def read_list(stream: BinaryIO) -> list[Path]:
    """Paths of a list, one in each line, as the file system encodes them; empty lines are passed over."""
    return [Path(os.fsdecode(line)) for line in map(_without_line_end, stream) if line]


def find_images(
    inputs: Sequence[Path | Sequence[Path]],
    out: Path,
    recursive: bool = False,
    endings: Collection[str] = ("_labels.png",),
) -> InputImages:
    """Finds the images among `inputs`: files, directories, patterns, and lists of files.

    A file is taken as it is, and so is a directory that is a Zarr array. A path that does not exist and has *, ? or [
    in it is a pattern; its ** stands for any directories. In a directory and for a pattern, files count whose endings
    are those of images; for a pattern those of videos too. Hidden files do not count, nor do links to directories below
    a directory or a **.

    Results go below `out`, named after the image without its ending. For an image in a given directory they go into the
    same subdirectory there. The same holds for the directory before the first wildcard of a pattern, and for the one
    that all files of a list are below. If there are several such directories, the results go below their names. If two
    images would have the same name, their results keep the endings.

    Args:
        recursive: search directories with everything below them, except `out`.
        endings: ends of the names of all results that an image will have.

    Raises:
        ValueError: a directory or pattern has no images, or its directory is `out` itself; or two images, or a result
            and an image, are the same file.
    """
    found = InputImages([])
    groups = [_group(given, out, recursive, found) for given in inputs]
    several = len({os.path.realpath(root) for root, _ in groups if root is not None}) > 1
    placed: list[tuple[Path, Path]] = []
    for root, names in groups:
        top = Path(os.path.basename(os.path.realpath(root))) if root is not None and several else Path()
        placed += [(path, top / name) for path, name in names]
    short = Counter(relative.with_suffix("") for _, relative in placed)
    for path, relative in placed:
        unique = relative.with_suffix("") if short[relative.with_suffix("")] == 1 else relative
        found.images.append(InputImage(path, out / unique))
    _check(found.images, endings)
    return found


#: A directory, None for a file alone, and the paths of images with their names below that directory.
_Group = tuple[Path | None, list[tuple[Path, Path]]]


def _group(given: Path | Sequence[Path], out: Path, recursive: bool, found: InputImages) -> _Group:
    """Images that `given` stands for; what else is there is noted in `found`."""
    if not isinstance(given, Path):
        return _listed(given)
    if os.path.isdir(given) and not is_zarr(given):
        return given, [(given / name, name) for name in _names_in(given, out, recursive, found)]
    if _WILD.search(str(given)) and not os.path.lexists(given):
        return _matches(given, out, found)
    return None, [(given, Path(given.name))]


def _listed(paths: Sequence[Path]) -> _Group:
    if not paths:
        return None, []
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return Path(root), [(path, Path(os.path.relpath(os.path.abspath(path), root))) for path in paths]


def _matches(pattern: Path, out: Path, found: InputImages) -> _Group:
    """Images and videos that `pattern` matches, sorted; other files are counted in `found`."""
    first = next(i for i, part in enumerate(pattern.parts) if _WILD.search(part))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    _check_other(root, out)
    if rest[-1] == "**":  # which pathlib takes for directories alone
        rest = (*rest, "*")
    target, names = os.path.realpath(out), []
    for path in sorted(root.glob(os.path.join(*rest))):
        name = Path(os.path.relpath(path, root))
        hidden = any(part.startswith(".") and part != ".." for part in name.parts)
        if hidden or os.path.isdir(path) or target in map(os.path.realpath, path.parents):
            continue
        if _is_image(path.name) or is_video(path):
            names.append((path, name))
        else:
            found.others += 1
    if not names:
        raise ValueError(f"{pattern}: no images or videos match this pattern")
    return root, names


def _names_in(directory: Path, out: Path, recursive: bool, found: InputImages) -> list[Path]:
    """Paths of images relative to `directory`, sorted; everything else there is noted in `found`."""
    _check_other(directory, out)
    target = os.path.realpath(out)
    names, below = [], 0
    for folder, folders, files in os.walk(directory, onerror=lambda error: found.unread.append(_reason(error))):
        below += len(folders)
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(folder, name)) != target)
        images = [name for name in files if _is_image(name)]
        found.others += len(files) - len(images)
        names += [Path(os.path.relpath(folder, directory), name) for name in sorted(images)]
        if not recursive:
            break
    if not names and not found.unread:
        hint = f"; -r looks into its {below} subdirectories, too" if below and not recursive else ""
        raise ValueError(f"{directory}: no images in this directory (files that end in .jpg, .png or the like){hint}")
    return names


def _is_image(name: str) -> bool:
    """Whether `name` has the ending of a format that Pillow reads, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _endings()


@cache
def _endings() -> frozenset[str]:
    formats = Image.registered_extensions()
    return frozenset(ending for ending, name in formats.items() if name in Image.OPEN and name not in _STUBS)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _without_line_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _check_other(directory: Path, out: Path) -> None:
    if os.path.realpath(directory) == os.path.realpath(out):
        raise ValueError(f"--out must be another directory than that of the images, {directory}")


def _check(images: list[InputImage], endings: Collection[str]) -> None:
    """Raises ValueError if two images would write the same file, or one would overwrite an image."""
    inputs = {os.path.realpath(image.path) for image in images}
    videos = {os.path.realpath(image.result): image for image in images if image.is_video}
    frame = re.compile(rf"(.+)_\d{{{_FRAME_DIGITS},}}({'|'.join(map(re.escape, endings))})", re.DOTALL)
    first: dict[Path, InputImage] = {}
    for image in images:
        for ending in endings:
            output = image.output(ending)
            match = frame.fullmatch(os.path.realpath(output))
            other = first.get(output) or (videos.get(match[1]) if match else None)
            if other is not None:
                raise ValueError(f"{other.path} and {image.path} would both be written to {output}")
            first[output] = image
            if os.path.realpath(output) in inputs:
                raise ValueError(f"the result {output} of {image.path} would overwrite an input image")
    for path in inputs:
        match = frame.fullmatch(path)
        if match and match[1] in videos:
            raise ValueError(f"a result of {videos[match[1]].path} would overwrite the input image {path}")
