"""Measures a prediction in tiles in this process; prints one line of JSON.

The image is made on disk, strip by strip, read in windows, and its labels are written in strips, as `ladderseg predict
--tile` does. The network has random weights. Of a large image the first rows of tiles are enough: each later one takes
the same memory.
"""

import argparse
import json
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from arguments import image_size, model_name, positive
from peak_memory import started_meter
from train_step import NUM_CLASSES, SEED, machine, now

from ladderseg_fast import create_model
from ladderseg_fast.data import IMAGENET_NORMALISATION
from ladderseg_fast.engine.tiled import FORMATS, ResultFile, ResultRows, RowForm, TileSize, open_windows, predict_tiled
from ladderseg_fast.memory.process import peak_memory

KINDS = ("npy", "png", "tiff")
_STRIP = 256


class Enough(Exception):
    """Signal that as many rows of tiles are done as were asked for."""


class FirstRows:
    """Labels of the first `count` rows of tiles, on their way to `labels`."""

    def __init__(self, labels: ResultFile, count: int | None) -> None:
        self._labels, self._left = labels, count

    @property
    def rows(self) -> int:
        return self._labels.rows

    def write(self, rows: ResultRows) -> None:
        self._labels.write(rows)

    def synchronise(self) -> None:
        self._labels.synchronise()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise Enough


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = write_image(Path(directory) / f"image.{options.kind}", options.kind, options.size)
        model = create_model(options.model, options.classes).to(device).eval()
        measured = measure(model, path, options)
    print(json.dumps(measured | {"machine": machine(device)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_tile_options(parser)
    parser.add_argument("--size", type=image_size, required=True, metavar="HxW", help="of the image")
    return parser.parse_args()


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a prediction in tiles is measured with, besides the image's size."""
    parser.add_argument("--model", type=model_name, default="ladder_densenet121", metavar="NAME")
    parser.add_argument(
        "--classes", type=positive, default=NUM_CLASSES, metavar="K", help="of the network (default: %(default)s)"
    )
    parser.add_argument("--kind", choices=KINDS, default="npy", help="format of the image (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the labels (default: %(default)s)")
    parser.add_argument("--tile", type=positive, default=1024, metavar="N", help="default: %(default)s")
    parser.add_argument("--overlap", type=int, default=256, metavar="N", help="default: %(default)s")
    parser.add_argument("--rows", type=positive, metavar="N", help="rows of tiles to label (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: what torch chooses")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="place of the image (default: the system's)")


def measure(model: torch.nn.Module, path: Path, options: argparse.Namespace) -> dict:
    """Peak bytes, above what was in use before and of the whole process, and the time per megapixel of labels."""
    palette = np.arange(768, dtype=np.uint8).reshape(256, 3)
    done = [0, 0]

    def on_tile(count: int, total: int) -> None:
        done[:] = count, total

    meter = started_meter(torch.device(options.device))
    started = now(torch.device(options.device))
    with (
        closing(open_windows(path)) as image,
        ResultFile(path.with_name("labels"), options.format, RowForm(image.size, palette=palette), {}) as labels,
    ):
        try:
            tiles = TileSize(options.tile, options.overlap)
            sink = FirstRows(labels, options.rows)
            predict_tiled(model, image, sink, IMAGENET_NORMALISATION, tiles, on_tile)
            labels.finish()
        except Enough:
            pass
        megapixels = labels.rows * image.size[1] / 1e6
    seconds = now(torch.device(options.device)) - started
    return {
        "peak": meter.stop(),
        "process": peak_memory(torch.device("cpu")),
        "tiles": done[0],
        "all_tiles": done[1],
        "megapixels": megapixels,
        "seconds_per_megapixel": seconds / megapixels,
    }


def write_image(path: Path, kind: str, size: tuple[int, int]) -> Path:
    """Writes an image [H, W, 3] uint8 of `size`, of which a strip at a time is in memory."""
    height, width = size
    if kind == "npy":
        array = np.lib.format.open_memmap(path, "w+", np.uint8, (height, width, 3))
        del array  # zeros, which take no place; each strip is mapped by itself
        for top, rows in strips(size):
            array = np.lib.format.open_memmap(path, "r+")
            array[top : top + len(rows)] = rows
            del array
    elif kind == "tiff":
        import tifffile

        tiles = (rows[:, left : left + _STRIP] for _, rows in strips(size) for left in range(0, rows.shape[1], _STRIP))
        tifffile.imwrite(
            path,
            tiles,
            shape=(height, width, 3),
            dtype="uint8",
            tile=(_STRIP, _STRIP),
            photometric="rgb",
            compression="zlib",
            maxworkers=1,
        )
    else:
        write_png(path, size)
    return path


def write_png(path: Path, size: tuple[int, int]) -> None:
    """Writes a PNG whose rows are stored as differences from the row above."""
    height, width = size
    stream = zlib.compressobj(1)
    above = np.zeros((1, width * 3), np.uint8)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        for _, rows in strips(size):
            flat = rows.reshape(len(rows), -1)
            differences = flat - np.concatenate([above, flat[:-1]])
            filtered = np.concatenate([np.full((len(rows), 1), 2, np.uint8), differences], axis=1)
            above = flat[-1:]
            file.write(_chunk(b"IDAT", stream.compress(filtered.tobytes())))
        file.write(_chunk(b"IDAT", stream.flush()) + _chunk(b"IEND", b""))


def strips(size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Strips of rows of a picture with smooth and rough parts: the first row, and [n, W, 3] uint8."""
    height, width = size
    x = np.arange(width, dtype=np.uint32)[None, :, None]
    channel = np.array([3, 5, 7], np.uint32)
    for top in range(0, height, _STRIP):
        y = np.arange(top, min(height, top + _STRIP), dtype=np.uint32)[:, None, None]
        yield top, ((x * channel // 8 + y // 2) ^ (x // 64 * y // 64)).astype(np.uint8)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main()
