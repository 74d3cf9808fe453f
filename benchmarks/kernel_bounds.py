"""Bounds of the time of each CUDA kernel, from its machine code: no GPU is needed.

    python benchmarks/kernel_bounds.py
prints the bounds of a training step on several devices, and of one of these by kernel (--device, --dtype);

    python benchmarks/kernel_bounds.py --kernels bn_relu_conv3x3_weight --architectures 90 --elements float16
prints the loops of these kernels: the instructions that a warp issues in one trip, by kind. It takes seconds.

It needs NVRTC, and nvdisasm for architectures from 7.5 on: pip install nvidia-cuda-nvdisasm.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from arguments import image_size, positive
from compiled_kernels import Kernel, compile_kernels, operators
from control_flow import LoopPath
from kernel_ceilings import write_ceilings
from kernel_resources import ARCHITECTURES
from kernel_tables import STEPS, by_kernel, document, launched_kernels, summary, write_check
from machine_code import KINDS
from occupancy import LIMITS
from report import markdown_row
from roofline import DTYPES, MODELS, titled
from roofline_devices import DEVICES

from ladderseg_fast.cuda import images, kernel_sources


def main() -> None:
    options = parse_arguments()
    step = options.model, options.batch, options.size
    device = DEVICES[options.device]
    if options.ceilings:
        write_ceilings()
    if options.check:
        print(write_check(options.check, device, *step, options.sources))
    if options.markdown:
        options.markdown.write_text(document(*step))
    if options.kernels:
        for kernel in chosen_kernels(options):
            print(f"{loops_of(kernel)}\n")
    elif not (options.ceilings or options.check or options.markdown):
        steps = {one: launched_kernels(DEVICES[one[0]], one[1], *step, options.sources) for one in STEPS}
        print(titled("A step", summary(steps)))
        chosen = options.device, options.dtype
        kernels = steps[chosen] if chosen in steps else launched_kernels(device, options.dtype, *step, options.sources)
        print(f"\n{titled(', '.join(chosen), by_kernel(kernels, device))}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=re.compile, metavar="PATTERN", help="loops of the kernels with such names")
    parser.add_argument("--architectures", type=int, nargs="+", choices=list(LIMITS), default=ARCHITECTURES)
    parser.add_argument(
        "--elements", nargs="+", choices=kernel_sources.ELEMENTS, default=["float32", "float16"], help="element types"
    )
    parser.add_argument("--model", choices=MODELS, default="densenet121", help="backbone")
    parser.add_argument("--size", type=image_size, default=(1024, 2048), metavar="HxW", help="default: 1024x2048")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images per step (default: 2)")
    parser.add_argument("--device", choices=list(DEVICES), default="H200", help="of the table by kernel")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16", help="of the table by kernel")
    parser.add_argument("--sources", type=Path, default=images.sources(), help="kernels' sources of another revision")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write docs/kernel_bounds.md there")
    parser.add_argument("--ceilings", action="store_true", help="make today's figures the ceilings of the tests")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RESULTS",
        help="keep the bounds of the revision whose kernels were measured in this file, for docs/kernel_bounds.md; "
        "its kernels are in --sources, its device is --device",
    )
    return parser.parse_args()


def chosen_kernels(options: argparse.Namespace) -> list[Kernel]:
    """Kernels that --kernels, --elements and --architectures name."""
    found = operators(options.kernels.search, options.sources)
    jobs = [(one, element, number) for one in found for element in options.elements for number in options.architectures]
    return compile_kernels(jobs, options.kernels.search, options.sources)


def loops_of(kernel: Kernel) -> str:
    """Text about a kernel and a table of its loops."""
    used = kernel.resources
    lines = [
        f"{kernel.name}_{kernel.element} on sm_{kernel.architecture} ({kernel.language}): {used.threads} threads, "
        f"{used.registers} registers, {used.shared} bytes of shared memory, {kernel.blocks} blocks per multiprocessor"
    ]
    loops = list(nested_loops(kernel))
    kinds = [kind for kind in KINDS if kernel.path.kinds[kind] or any(loop.kinds[kind] for _, loop in loops)]
    rows = [["loop", "trips", "slots", "per product", *kinds]]
    rows.append(["outside of loops", "1", str(kernel.path.slots), "", *(str(kernel.path.kinds[one]) for one in kinds)])
    for depth, loop in loops:
        trips = "?" if loop.trips is None else f"{loop.trips:.4g}"
        product = per_product(loop) if kernel.multiplies else ""
        cells = [f"{loop.total_slots:.0f}", product, *(str(loop.kinds[kind]) for kind in kinds)]
        rows.append([f"{'  ' * depth}{loop.begin} to {loop.end}", trips, *cells])
    widths = [max(map(len, column)) for column in zip(*rows)]
    head, *body = (markdown_row(cells, widths) for cells in rows)
    return "\n".join([*lines, head, *body])


def nested_loops(kernel: Kernel) -> Iterator[tuple[int, LoopPath]]:
    """Loops on the way of a warp, each before those inside it, with the number of loops around it."""
    stack = [(0, loop) for loop in reversed(kernel.path.loops)]
    while stack:
        depth, loop = stack.pop()
        yield depth, loop
        stack += [(depth + 1, inner) for inner in reversed(loop.loops)]


def per_product(loop: LoopPath) -> str:
    """Issue slots per instruction that multiplies: "12.5 mma"."""
    product = loop.product
    return f"{loop.total_slots / product.count:.2f} {product.kind}" if product.count else ""


if __name__ == "__main__":
    main()
