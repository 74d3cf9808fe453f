"""Memory and time of predictions in tiles, of images of several sizes.

    python benchmarks/tiled.py --sizes 2048x2048,2048x8192,8192x2048 --rows 2
    python benchmarks/tiled.py --sizes 20000x20000 --rows 2 --kind tiff

Each image is made, read and labelled by a process of its own (tiled_step.py). The memory that a row of tiles takes
grows with the width of the image, and not with its height.
"""

import argparse
import sys

from arguments import image_size, size_text
from subprocess_step import StepFailed, run_step
from tiled_step import add_tile_options


def main() -> int:
    options = parse_arguments()
    print(
        f"{options.model}, tiles of {options.tile} with {options.overlap} overlap, {options.kind} to {options.format}\n"
    )
    print("| image | tiles | peak above start | peak of the process | seconds per megapixel |")
    print("|---|---:|---:|---:|---:|")
    machine, failed = "", 0
    for size in options.sizes:
        try:
            measured = run_step("tiled_step.py", ["--size", size_text(size), *step_arguments(options)])
        except StepFailed as error:
            print(f"| {size_text(size)} | {error} | | | |", flush=True)
            failed += 1
            continue
        machine = "{device}, {threads} threads, torch {torch}".format(**measured["machine"])
        tiles = f"{measured['tiles']} of {measured['all_tiles']}"
        peaks = " | ".join(f"{measured[name] / 2**20:.0f} MiB" for name in ("peak", "process"))
        print(f"| {size_text(size)} | {tiles} | {peaks} | {measured['seconds_per_megapixel']:.2f} |", flush=True)
    print(f"\n{machine}")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes",
        type=lambda text: [image_size(size) for size in text.split(",")],
        default=[(2048, 2048), (2048, 8192), (8192, 2048)],
        metavar="HxW[,HxW]",
        help="of the images (default: 2048x2048,2048x8192,8192x2048)",
    )
    add_tile_options(parser)
    return parser.parse_args()


def step_arguments(options: argparse.Namespace) -> list[str]:
    """Arguments of tiled_step.py, besides the size."""
    names = ("model", "classes", "kind", "format", "tile", "overlap", "rows", "device", "threads", "directory")
    given = {name: getattr(options, name) for name in names}
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


if __name__ == "__main__":
    sys.exit(main())
