"""The readers of this package, each with small valid files to begin from."""

import io
import json
import math
import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save as save_tensors

from ladderseg_fast.cuda import image_cache
from ladderseg_fast.data import RGB, ImageForm, LabelSet, Normalisation, read_image
from ladderseg_fast.data.classes_file import read_classes
from ladderseg_fast.data.classes_list import read_classes_list
from ladderseg_fast.data.image_files import (
    check_annotation_header,
    check_image_header,
    read_annotation,
    read_instance_ids,
    read_palette,
    verify_checksums,
)
from ladderseg_fast.data.image_header import read_header
from ladderseg_fast.data.listed_names import read_stems
from ladderseg_fast.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ladderseg_fast.engine.config import Config
from ladderseg_fast.engine.config_tables import build_config, config_text, read_config_file
from ladderseg_fast.engine.early_run import config_of_early_run
from ladderseg_fast.engine.first_weights import read_first_weights
from ladderseg_fast.engine.report.history import read_history
from ladderseg_fast.engine.report.page import report
from ladderseg_fast.engine.run_log import RunLog
from ladderseg_fast.engine.tiled import ResultFile, RowForm, open_windows
from ladderseg_fast.engine.training_result import TrainingResult
from ladderseg_fast.engine.video import frames_of, read_facts
from ladderseg_fast.engine.written_files import WrittenFiles
from ladderseg_fast.memory.rates import load_rates
from ladderseg_fast.models.pretrained import SavedModel, read_pretrained, write_pretrained
from ladderseg_fast.models.segmentation_model import SegmentationModel
from ladderseg_fast.models.weights.files import read_state_dict
from ladderseg_fast.tensor_digest import tensor_digest

#: A file in a folder that may be changed, and what reads it.
Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Target:
    """A reader, and files that it reads.

    Attributes:
        files: by name, which may have folders; the first is the one to change, or one drawn if `any_file`.
        read: of the path of the changed file.
        exact: makes of what was read something that must be the same for every changed file that is not refused, as
            long as checksums in it were not made right again; None where the format has no checksum.
        share: how often it is chosen, as a weight.
        any_file: every file may be the one to change.
        names: what a message may have in place of the file's name, as a regular expression.
    """

    name: str
    files: Mapping[str, bytes]
    read: Read
    exact: Callable[[Any], Any] | None = None
    share: float = 1.0
    any_file: bool = False
    names: str | None = None


_TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "norm.bias": torch.tensor([1.0, -2.0]).half()}


def targets(folder: Path) -> list[Target]:
    """All readers; `folder` is for the writers of their files."""
    return [
        *_weights(folder),
        *_texts(folder),
        *_pictures(),
        *_windows(folder),
        *_videos(folder),
        *_runs(folder),
        *_caches(folder),
    ]


# --- weights ---


def _weights(folder: Path) -> list[Target]:
    path = folder / "checkpoint.pt"
    save_checkpoint(path, _checkpoint())
    checkpoint = path.read_bytes()
    model = folder / "model.safetensors"
    options = {"num_classes": 2, "depth": 121}
    write_pretrained(model, SavedModel("LadderDenseNet", options, True, dict(_TENSORS)))
    saved = model.read_bytes()
    plain = save_tensors(_TENSORS, metadata={"format": "pt"})
    return [
        Target("checkpoint", {"last.pt": checkpoint}, load_checkpoint, lambda found: tensor_digest(found.state), 3),
        Target("state_dict", {"w.pth": _saved(_TENSORS)}, read_state_dict, tensor_digest, 2),
        Target("state_dict of old", {"w.pth": _saved({"state_dict": _TENSORS}, old=True)}, read_state_dict, None, 2),
        Target("safetensors", {"w.safetensors": plain}, read_state_dict),
        Target("saved model", {"m.safetensors": saved}, read_pretrained, lambda found: tensor_digest(found.state), 2),
        Target("saved model, made", {"m.safetensors": saved}, SegmentationModel.from_pretrained, None, 0.3),
        Target("first weights", {"w.pth": checkpoint}, read_first_weights, tensor_digest),
        Target("first weights, safetensors", {"w.safetensors": saved}, read_first_weights),
    ]


def _checkpoint() -> Checkpoint:
    config = Config().as_tables()
    training = {
        "learner": {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        "batches": 3,
        "losses": [1.0, 0.5],
    }
    training |= {"images": 4, "threads": 1, "random": {"torch": torch.zeros(8, dtype=torch.uint8)}, "names": "a"}
    labels = LabelSet(("road", "sky"), ((1, 2, 3), (4, 5, 6)))
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    size = (64, 64)
    return Checkpoint(2, "ladder_densenet121", "lean", labels, size, normalisation, config, dict(_TENSORS), training)


def _saved(content: object, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


# --- texts ---


_CLASSES = b"""ignore = [255]
ignore_colours = [[0, 0, 0]]

[[classes]]
name = "road"
colour = [128, 64, 128]
value = 7

[[classes]]
name = "sky"
colour = [70, 130, 180]
"""


#: Beginning of a message about a setting.
_SECTIONS = r"(model|data|training|output)\."


def _texts(folder: Path) -> list[Target]:
    config = config_text(Config(), None).encode()
    files = {"config.toml": config, "full.toml": re.sub(rb"# (\w+) is not set", rb"\1 = 1", config)}
    return [
        # Settings of several sources are checked together, so that a message names the key.
        Target("configuration", files, _read_config, share=2, any_file=True, names=_SECTIONS),
        Target("classes.toml", {"classes.toml": _CLASSES}, read_classes, None, 2),
        Target("classes.txt", {"classes.txt": b"__ignore__\nroad\nsky\n"}, read_classes_list),
        Target("list of stems", {"train.txt": b"2007_000032\n2007_000039\n"}, read_stems, None, 0.5),
    ]


def _read_config(path: Path) -> object:
    return build_config([read_config_file(path)])


# --- images ---


def _pictures() -> list[Target]:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (24, 32, 3), np.uint8)
    colour[:, 16:] = 90
    grey, labels = colour[..., 0], rng.integers(0, 3, (24, 32)).astype(np.uint8)
    deep = (colour[..., :1].repeat(4, 2).astype(np.uint16) << 8) + 5
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 300, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(labels)
    palette.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
    files = {
        "a.png": _encoded(Image.fromarray(colour), "PNG", pnginfo=info, exif=exif, icc_profile=b"profile" * 20),
        "b.png": _encoded(Image.fromarray(grey), "PNG"),
        "p.png": _encoded(palette, "PNG", transparency=2),
        "a.jpg": _encoded(Image.fromarray(colour), "JPEG", exif=exif),
        "g.jpg": _encoded(Image.fromarray(grey), "JPEG", progressive=True),
        "a.webp": _encoded(Image.fromarray(colour), "WEBP", exif=exif),
        "l.webp": _encoded(Image.fromarray(colour), "WEBP", lossless=True),
        "a.gif": _encoded(palette, "GIF"),
        "a.bmp": _encoded(Image.fromarray(colour), "BMP"),
        "a.ppm": _encoded(Image.fromarray(colour), "PPM"),
        "a.tif": _encoded(Image.fromarray(colour), "TIFF", compression="tiff_lzw", exif=exif),
        "b.tif": _encoded(Image.fromarray(colour), "TIFF"),
        "c.tif": _tiff(colour, tile=(16, 16), compression="zlib", photometric="rgb"),
    }
    bands = {
        "d.tif": _tiff(deep, photometric="minisblack", planarconfig="contig", compression="zlib"),
        "s.tif": _tiff(np.moveaxis(deep, 2, 0), photometric="minisblack", planarconfig="separate"),
        "d.png": _deep_png(deep),
    }
    of_labels = {name: files[name] for name in ("b.png", "p.png", "a.png")}
    ids = {"i.png": _encoded(Image.fromarray(grey.astype(np.uint16) * 100), "PNG")}
    return [
        Target("images", files, _read_image, None, 6, any_file=True),
        Target("images of 4 bands", bands, lambda path: read_image(path, ImageForm(4, 16)), None, 3, any_file=True),
        Target("label images", of_labels, _read_labels, None, 3, any_file=True),
        Target("instance ids", ids, read_instance_ids, None, 0.5),
    ]


def _read_image(path: Path) -> object:
    header = read_header(path)
    check_image_header(path, header)
    pixels = read_image(path)
    verify_checksums(path)
    return pixels


def _read_labels(path: Path) -> object:
    header = read_header(path)
    check_annotation_header(path, header, coloured=True)
    return read_annotation(path, coloured=True), read_palette(path)


def _encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def _deep_png(array: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(array))


# --- images in windows ---


def _windows(folder: Path) -> list[Target]:
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (40, 48, 3), np.uint8)
    npy = io.BytesIO()
    np.save(npy, colour)
    palette = Image.fromarray(colour[..., 0] % 3)
    palette.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
    files = {
        "a.npy": npy.getvalue(),
        "a.png": _encoded(Image.fromarray(colour), "PNG"),
        "p.png": _encoded(palette, "PNG", bits=2),
        "a.tif": _tiff(colour, tile=(16, 16), compression="zlib", photometric="rgb"),
        "b.tif": _tiff(colour, photometric="rgb"),
        "l.tif": _tiff(colour, photometric="rgb", compression="lzw", rowsperstrip=7),
        "j.tif": _encoded(Image.fromarray(colour), "TIFF", compression="jpeg"),
    }
    return [
        Target("windows", files, _read_windows, None, 6, any_file=True),
        Target("zarr", _zarr(folder, colour), lambda path: _read_windows(_zarr_root(path)), None, 0.5, any_file=True),
        Target("unfinished labels", *_unfinished(folder)),
    ]


def _read_windows(path: Path) -> object:
    with open_windows(path, RGB) as image:
        height, width = image.size
        rows, columns = min(height, 32), min(width, 32)
        if image.channels > 1000:
            return None  # the command compares them with the model's before it reads
        return image.read(0, rows, 0, columns), image.read(height - rows, height, width - columns, width)


def _zarr(folder: Path, colour: np.ndarray) -> dict[str, bytes]:
    import zarr

    root = folder / "a.zarr"
    zarr.create_array(str(root), shape=colour.shape, chunks=(16, 16, 3), dtype="uint8")[:] = colour
    names = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {f"a.zarr/{path.relative_to(root)}": path.read_bytes() for path in [root / "zarr.json", *names]}


def _zarr_root(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.name == "a.zarr")


def _unfinished(folder: Path) -> tuple[dict[str, bytes], Read]:
    form = RowForm((40, 30), palette=np.zeros((256, 3), np.uint8))

    def begin(path: Path, format: str) -> ResultFile:
        return ResultFile(path, format, form, {"model": "a", "tile": 64})

    def rows(top: int, bottom: int, label: int) -> Any:
        return SimpleNamespace(top=top, bottom=bottom, labels=np.full((bottom - top, form.size[1]), label, np.uint8))

    files = {}
    for name, format in (("l.png", "png"), ("l.tif", "tiff"), ("l.npy", "npy")):
        with begin(folder / name, format) as labels:
            labels.write(rows(0, 8, 1))
            labels.synchronise()
        files |= {f"{name}{end}": (folder / f"{name}{end}").read_bytes() for end in (".partial.json", ".partial")}

    def finish(path: Path) -> object:
        name = path.name.partition(".partial")[0]
        with begin(path.with_name(name), {"png": "png", "tif": "tiff", "npy": "npy"}[name[2:]]) as labels:
            labels.write(rows(labels.rows, form.size[0], 2))
            labels.finish()
        return None

    return files, finish


# --- videos ---


def _videos(folder: Path) -> list[Target]:
    import av

    files = {}
    for name, codec in (("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.avi", "mjpeg")):
        path = folder / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(4):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * i, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        files[name] = path.read_bytes()
    return [Target("videos", files, _read_video, None, 2, any_file=True)]


def _read_video(path: Path) -> object:
    read_facts(path)
    for _, content in frames_of(path):
        if isinstance(content, Exception):
            raise content
    return None


# --- run folders ---


def _runs(folder: Path) -> list[Target]:
    log = "".join(json.dumps(record) + "\n" for record in _records()).encode()
    path = folder / ".ladderseg.files"
    WrittenFiles(path).begin({"last.pt": None, "config.toml": b"x", "overlays/a.png": None})
    return [
        Target("log", {"log.jsonl": log}, _read_log, None, 3),
        Target("report", {"log.jsonl": log}, lambda path: report([read_history(path.parent)]), None, 3),
        Target("list of files", {".ladderseg.files": path.read_bytes()}, _read_list),
    ]


def _records() -> list[dict[str, Any]]:
    settings = Config().as_tables()
    start = {"kind": "start", "config": settings, "version": "1.0", "git_revision": "0123", "git_modified": False}
    records: list[dict[str, Any]] = [
        start | {"threads": 1, "processes": 1, "colours": {"road": [1, 2, 3], "<b>": [4, 5, 6]}}
    ]
    for step in range(1, 7):
        values = {"loss": 1 / step, "learning_rate": 1e-3, "seconds": 0.5, "data_wait_seconds": 0.1}
        values |= {"images_per_second": 4.0, "peak_memory_bytes": 10**8}
        records.append({"kind": "step", "step": step, "epoch": step / 3} | values)
        if step % 3 == 0:
            scores = {"miou": 0.5, "pixel_accuracy": 0.6, "iou": {"road": 0.5, "<b>": None}}
            confusion = {"confusion": [[3, 1], [0, 0]]}
            records.append({"kind": "evaluation", "step": step, "epoch": step / 3} | scores | confusion)
    records.append({"kind": "skip", "step": 3, "batch": 4, "loss": "nan", "files": ["a"]})
    records.append({"kind": "resume", "step": 6, "steps_before": 6, "config": settings})
    return [*records, {"kind": "end", "step": 6}]


def _read_log(path: Path) -> object:
    config_of_early_run(path)
    records = RunLog(path).cut(6, 6)
    result = TrainingResult.from_records(records)
    return result.best, result.first_loss


def _read_list(path: Path) -> object:
    files = WrittenFiles(path)
    return files.exists(), [files.wrote(name) for name in files.names()]


# --- the user's cache ---


def _caches(folder: Path) -> list[Target]:
    os.environ["LADDERSEG_FAST_CACHE"] = str(folder / "cache")
    image_cache.store("toy.sm_80.0123", b"image" * 20)
    entry = (folder / "cache" / "toy.sm_80.0123").read_bytes()
    rates = {"key": math.pi}
    return [
        Target("kernel images", {"toy.sm_80.0123": entry}, _read_image_of_kernel, lambda image: image or b"image" * 20),
        Target("rates", {"rates.json": json.dumps(rates).encode()}, _read_rates, None, 0.3),
    ]


def _read_image_of_kernel(path: Path) -> bytes | None:
    os.environ["LADDERSEG_FAST_CACHE"] = str(path.parent)
    return image_cache.load(path.name)


def _read_rates(path: Path) -> object:
    os.environ["LADDERSEG_FAST_CACHE"] = str(path.parent)
    return load_rates(torch.device("cpu"), torch.float32)


def chosen(all_targets: list[Target], draw: random.Random) -> Target:
    """One of `all_targets`, by their shares."""
    return draw.choices(all_targets, [target.share for target in all_targets])[0]
