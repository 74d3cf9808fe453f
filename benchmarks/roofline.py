"""Bytes, operations and the least time of a training step on GPUs: this package's kernels against plain PyTorch.

This needs no GPU: every launch is counted (roofline_counts.py says how). By the data sheets (roofline_devices.py), it
takes at least as long as its bytes take at the bandwidth of the memory, and its operations at the rate of the
arithmetic. The floor of a step is the sum over its launches.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from arguments import image_size, positive, size_text
from report import markdown_table, network
from roofline_counts import lean_step, plain_step
from roofline_devices import DEVICES, Device
from roofline_torch import Work
from tables import filled

MODELS = ("densenet121", "densenet169")

#: Types by the name of --dtype: the type of maps and weights, and whether torch may round float32 products to tf32.
DTYPES = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "float16": (torch.float16, False)}

INTRODUCTION = """# The roofline: bytes, operations and the least time of a training step

`python benchmarks/roofline.py --markdown docs/roofline.md` writes this page. But for the first table, nothing is
measured: it counts every launch of forward, loss and backward, in this package and in plain PyTorch (channels_last,
without torch.compile, no optimiser). By the data sheets, a launch takes at least as long as its bytes take at the
bandwidth of the memory, and at least as long as its operations take at the rate of the arithmetic. The floor of a step
is the sum over its launches.

- Each byte that a launch reads or writes counts once. Batch norm in plain PyTorch reads its input twice, and its
  backward reads input and gradient twice, because it needs sums over maps that no cache holds.
  `benchmarks/roofline_counts.py` has all rules; inexact rules favour plain PyTorch.
- Our kernels declare which memory a launch touches. The tests run them in an emulator that checks every access
  against this declaration, and compare the bytes.
- tf32 is float32 with products on tensor cores, if there are some, which is torch's default for convolutions. GTX 10
  and Titan X have none and multiply float16 maps in float32.
- Bytes differ a little by device: larger devices get more blocks, whose partial sums go through memory.
- The floor does not include the time between launches. A step has some 1400 launches, most of them short. On fast
  devices they may take longer than the floor."""

#: The one table of this page that was measured; tables.py fills it.
MEASURED = """## Measured

What the kernels of an earlier revision took; the present ones have run only on an emulator. A step in which all of
them run takes at least as long.

<!-- table: gpu kernels -->
<!-- end -->"""

#: Rows of a table with less than this share of its bytes are put together.
LEAST_SHARE = 0.002


def main() -> None:
    options = parse_arguments()
    if options.markdown:
        options.markdown.write_text(document(options))
    else:
        print(f"{whole_step(options, options.model, options.dtype)}\n\n{details(options)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="densenet121", help="backbone")
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="default: float32")
    parser.add_argument("--device", choices=list(DEVICES), default="GTX 1070", help="of the tables by kernel and stage")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write docs/roofline.md there: the steps of all models and types"
    )
    return parser.parse_args()


def document(options: argparse.Namespace) -> str:
    """Text of docs/roofline.md."""
    steps = [whole_step(options, model, dtype) for model in MODELS for dtype in DTYPES]
    return filled("\n\n".join([INTRODUCTION, MEASURED, *steps, details(options)]) + "\n")


def whole_step(options: argparse.Namespace, model: str, dtype_name: str) -> str:
    """Table of ours beside plain, on each device."""
    dtype, allow_tf32 = DTYPES[dtype_name]
    step = dtype, model, options.batch, options.size, allow_tf32
    rows = [["", "GB, plain", "ours", "ratio", "TFLOP, plain", "ours", "floor, plain", "ours", "ratio"]]
    all_plain: dict[bool, list[Work]] = {}  # it is the same on all devices, but for the way of its products
    for device in DEVICES.values():
        by_tensor_cores = device.multiplies_by_tensor_cores(dtype, allow_tf32)
        if by_tensor_cores not in all_plain:
            all_plain[by_tensor_cores] = plain_step(device, *step)
        both = all_plain[by_tensor_cores], lean_step(device, *step)
        moved = [sum(work.moved_bytes for work in works) / 1e9 for works in both]
        operations = [sum(work.operations for work in works) / 1e12 for works in both]
        floors = [1e3 * sum(floor(work, device, dtype) for work in works) for works in both]
        cells = [f"{moved[0]:.1f}", f"{moved[1]:.1f}", f"{moved[1] / moved[0]:.2f}"]
        cells += [f"{count:.2f}" for count in operations]
        cells += [f"{floors[0]:.0f} ms", f"{floors[1]:.0f} ms", f"{floors[1] / floors[0]:.2f}"]
        rows.append([device.name, *cells])
    return titled(f"{network(model)}, {options.batch} x {size_text(options.size)}, {dtype_name}", rows)


def details(options: argparse.Namespace) -> str:
    """Tables of one step: by kernel and stage, and plain's by operator."""
    dtype, allow_tf32 = DTYPES[options.dtype]
    device = DEVICES[options.device]
    step = device, dtype, options.model, options.batch, options.size, allow_tf32
    ours, plain = lean_step(*step), plain_step(*step)
    what = f"{network(options.model)}, {options.dtype}, {device.name}"
    sections = [
        titled(f"Ours by kernel: {what}", grouped(ours, device, dtype, "kernel", kernel)),
        titled(f"Ours by stage: {what}", grouped(ours, device, dtype, "stage", stage)),
        titled(f"Plain by operator: {what}", grouped(plain, device, dtype, "operator", kernel)),
    ]
    return "\n\n".join(sections)


def kernel(work: Work) -> str:
    return work.name


def stage(work: Work) -> str:
    return work.stage


def grouped(
    works: list[Work], device: Device, dtype: torch.dtype, title: str, key: Callable[[Work], str]
) -> list[list[str]]:
    """Rows of a table: sums of the works of each key, those that move most first."""
    groups: dict[str, list[Work]] = {}
    for work in works:
        groups.setdefault(key(work), []).append(work)
    least = LEAST_SHARE * sum(work.moved_bytes for work in works)
    large, small = {}, []
    for name, group in groups.items():
        if sum(work.moved_bytes for work in group) >= least:
            large[name] = group
        else:
            small += group
    ordered = sorted(large.items(), key=lambda item: -sum(work.moved_bytes for work in item[1]))
    if small:
        ordered.append((f"{len(groups) - len(large)} others", small))
    ordered.append(("all", works))
    rows = [[title, "launches", "GB read", "GB written", "GFLOP", "floor"]]
    return rows + [[name, *sums(group, device, dtype)] for name, group in ordered]


def sums(works: Iterable[Work], device: Device, dtype: torch.dtype) -> list[str]:
    works = list(works)
    return [
        str(len(works)),
        f"{sum(work.read_bytes for work in works) / 1e9:.2f}",
        f"{sum(work.written_bytes for work in works) / 1e9:.2f}",
        f"{sum(work.operations for work in works) / 1e9:.1f}",
        f"{1e3 * sum(floor(work, device, dtype) for work in works):.1f} ms",
    ]


def floor(work: Work, device: Device, dtype: torch.dtype) -> float:
    """Least time, in seconds."""
    return device.floor(work.moved_bytes, work.operations, dtype, work.by_tensor_cores)


def titled(title: str, rows: list[list[str]]) -> str:
    """Section with a table, in Markdown; the first row is the head."""
    return f"## {title}\n\n{markdown_table(rows)}"


if __name__ == "__main__":
    main()
