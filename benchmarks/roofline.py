"""Bytes, operations and the least time of a training step on GPUs: this package's kernels against plain PyTorch.

Needs no GPU: every launch is counted (roofline_counts.py says how), and takes at least as long as its bytes take at the
bandwidth of the memory, or its operations at the rate of the arithmetic, by the data sheets (roofline_devices.py). The
floor of a step is the sum over its launches.
"""

import argparse
from collections.abc import Callable, Iterable

import torch
from arguments import image_size, positive, size_text
from report import markdown_row, network
from roofline_counts import Work, lean_step, plain_step
from roofline_devices import DEVICES, Device

#: By the name of --dtype: the type of maps and weights, and whether torch may round float32 products to tf32.
DTYPES = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "float16": (torch.float16, False)}

#: Rows of a table with less than this share of its bytes are put together.
LEAST_SHARE = 0.002


def main() -> None:
    options = parse_arguments()
    text = report(options)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(f"{text}\n")
    else:
        print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["densenet121", "densenet169"], default="densenet121", help="backbone")
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="default: float32")
    parser.add_argument("--device", choices=list(DEVICES), default="GTX 1070", help="of the tables by kernel and stage")
    parser.add_argument("--markdown", metavar="FILE", help="write the report there instead of printing it")
    return parser.parse_args()


def report(options: argparse.Namespace) -> str:
    """All tables, in Markdown."""
    dtype, allow_tf32 = DTYPES[options.dtype]
    step = (dtype, options.model, options.batch, options.size, allow_tf32)
    ours = {device: lean_step(device, *step) for device in DEVICES.values()}
    plain = {device: plain_step(device, *step) for device in DEVICES.values()}
    chosen = DEVICES[options.device]
    what = f"{network(options.model)}, {options.batch} x {size_text(options.size)}, {options.dtype}"
    sections = [
        (f"One training step of {what}", whole_step(ours, plain, dtype)),
        (f"ladderseg_fast, by kernel, for {chosen.name}", grouped(ours[chosen], chosen, dtype, "kernel", kernel)),
        (f"ladderseg_fast, by stage, for {chosen.name}", grouped(ours[chosen], chosen, dtype, "stage", stage)),
        (f"plain PyTorch, by operator, for {chosen.name}", grouped(plain[chosen], chosen, dtype, "operator", kernel)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in sections)


def kernel(work: Work) -> str:
    return work.name


def stage(work: Work) -> str:
    return work.stage


def whole_step(ours: dict[Device, list[Work]], plain: dict[Device, list[Work]], dtype: torch.dtype) -> str:
    """Ours beside plain on each device."""
    rows = [["", "GB, plain", "ours", "ratio", "TFLOP, plain", "ours", "floor, plain", "ours", "ratio"]]
    for device in ours:
        moved = [sum(work.moved_bytes for work in works[device]) for works in (plain, ours)]
        operations = [sum(work.operations for work in works[device]) for works in (plain, ours)]
        seconds = [sum(floor(work, device, dtype) for work in works[device]) for works in (plain, ours)]
        cells = [f"{moved[0] / 1e9:.1f}", f"{moved[1] / 1e9:.1f}", f"{moved[1] / moved[0]:.2f}"]
        cells += [f"{count / 1e12:.2f}" for count in operations]
        cells += [f"{1e3 * seconds[0]:.0f} ms", f"{1e3 * seconds[1]:.0f} ms", f"{seconds[1] / seconds[0]:.2f}"]
        rows.append([device.name, *cells])
    return table(rows)


def grouped(works: list[Work], device: Device, dtype: torch.dtype, title: str, key: Callable[[Work], str]) -> str:
    """The sums of the works of one key, those that move most first."""
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
    rows += [[name, *sums(group, device, dtype)] for name, group in ordered]
    return table(rows)


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
    """Seconds."""
    return device.floor(work.moved_bytes, work.operations, dtype, work.by_tensor_cores)


def table(rows: list[list[str]]) -> str:
    """In Markdown; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    head, *body = (markdown_row(cells, widths) for cells in rows)
    return "\n".join([head, rule, *body])


if __name__ == "__main__":
    main()
