"""Tables of kernel_bounds.py, and docs/kernel_bounds.md made of them."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arguments import size_text
from compiled_kernels import Kernel, compile_kernels, operators
from kernel_time import Bound, bound, main_loop
from report import network
from roofline import DTYPES, titled
from roofline_counts import lean_step
from roofline_devices import DEVICES, Device
from roofline_torch import Work

from ladderseg_fast.cuda import images

#: Steps of the summary: device and type.
STEPS = (
    ("GTX 1070", "float32"),
    ("RTX 3060", "tf32"),
    ("RTX 4090", "float16"),
    ("H100 SXM", "float16"),
    ("H200", "float16"),
    ("H200", "tf32"),
    ("H200", "float32"),
)

#: Bounds of the code that a device has run, beside its measurements in results: by the same name.
CHECKED = Path(__file__).parent / "bounds"
MEASURED = Path(__file__).parent / "results"

INTRODUCTION = """# Bounds of the kernels' times, from their machine code

`python benchmarks/kernel_bounds.py --markdown docs/kernel_bounds.md` writes this page. It needs no GPU: it compiles the
kernels, reads their machine code, and counts the instructions that a warp issues on its way where all accesses are
whole chunks of 16 bytes. A launch takes at least as long as the largest of

- **issue**: the instructions of the warps on the multiprocessor with the most blocks, one per scheduler and cycle;
- **memory**: the bytes that the launch moves, each once, at the bandwidth of the memory;
- **products**: its products at the rate of the arithmetic.

The bound of a kernel in a step is the sum over its launches, in milliseconds. `benchmarks/kernel_time.py` has the
rules. Not in it: latency, conflicts of banks, barriers, units that take an instruction only every other cycle, and the
launch itself. The last section shows how much longer a device took. There, kernels that multiply took 1.2 to 3 times
their bound. Kernels of a few instructions took 3 to 4 us a launch, whatever they do. Max-pooling's backward and the
cross entropy took six times their bound; probably they wait for results. Maps that are not whole chunks of 16 bytes
take a slower way than the one that is counted. Operators of torch are not in the tables.

`python benchmarks/kernel_bounds.py --kernels PATTERN --architectures 90` prints the loops of single kernels.

In the tables by kernel: slots are issue slots of one trip through the main loop, in kernels that multiply per
instruction that does so (mma: on tensor cores, for a warp). Scalar: accesses of less than 8 bytes to device memory in
that trip. Blocks: those that a multiprocessor holds at a time. Full: launched blocks / multiprocessors, divided by that
number rounded up; the rest is waiting for the last blocks. No kernel accesses local memory in a loop. The disassembler
reads no architecture before 7.5: there the counts are of PTX, translated to instructions roughly. Against the machine
code of sm_61, they were 12 % below to 9 % above in the product loops of an earlier revision, in one 22 % above."""


@dataclass(frozen=True)
class Launched:
    """A kernel's launches in a step."""

    kernel: Kernel
    works: list[Work]
    bounds: list[Bound]

    def sum(self, part: str) -> float:
        """Milliseconds of a part of the bounds: "issue", "memory", "products" or "seconds", which is all."""
        return 1e3 * sum(getattr(one, part) for one in self.bounds)

    def full(self, device: Device) -> float:
        """Share of the multiprocessors' time that blocks fill, the last ones of a launch considered."""
        even = [work.launch.blocks / device.multiprocessors for work in self.works]
        spans = [one.issue for one in self.bounds]
        return sum(span * blocks / math.ceil(blocks) for span, blocks in zip(spans, even)) / sum(spans)


def launched_kernels(
    device: Device, dtype_name: str, model: str, batch: int, size: tuple[int, int], sources: Path | None = None
) -> list[Launched]:
    """Kernels of a step, those with the largest bound first. sources has other kernels than the package's."""
    dtype, allow_tf32 = DTYPES[dtype_name]
    works = [work for work in lean_step(device, dtype, model, batch, size, allow_tf32) if work.launch is not None]
    by_kernel: dict[tuple[str, str], list[Work]] = {}
    for work in works:
        by_kernel.setdefault((work.name, work.launch.element), []).append(work)
    kernels = compiled(by_kernel, device.capability, sources)
    found = [
        Launched(kernels[key], group, [bound(work, kernels[key], device, dtype) for work in group])
        for key, group in by_kernel.items()
    ]
    return sorted(found, key=lambda one: -one.sum("seconds"))


def compiled(
    wanted: Iterable[tuple[str, str]], architecture: int, sources: Path | None
) -> dict[tuple[str, str], Kernel]:
    """Kernels by name and element type."""
    wanted = set(wanted)
    names = {name for name, _ in wanted}
    directory = images.sources() if sources is None else sources
    jobs = {
        (operator, element, architecture) for name, element in wanted for operator in operators(name.__eq__, directory)
    }
    kernels = compile_kernels(sorted(jobs), names.__contains__, directory)
    return {(kernel.name, kernel.element): kernel for kernel in kernels}


def document(model: str, batch: int, size: tuple[int, int]) -> str:
    """Text of docs/kernel_bounds.md."""
    steps = {step: launched_kernels(DEVICES[step[0]], step[1], model, batch, size) for step in STEPS}
    what = f"{network(model)}, {batch} x {size_text(size)}"
    sections = [titled(f"A step: {what}", summary(steps))]
    sections += [titled(f"{name}, {dtype}", by_kernel(found, DEVICES[name])) for (name, dtype), found in steps.items()]
    return "\n\n".join([INTRODUCTION, *sections, *checks()]) + "\n"


def summary(steps: dict[tuple[str, str], list[Launched]]) -> list[list[str]]:
    """Rows of the sums over all kernels of a step."""
    rows = [["device and type", "launches", "issue", "memory", "products", "bound"]]
    for (name, dtype), kernels in steps.items():
        cells = [f"{sum(one.sum(part) for one in kernels):.1f}" for part in ("issue", "memory", "products", "seconds")]
        rows.append([f"{name}, {dtype}", str(sum(len(one.works) for one in kernels)), *cells])
    return rows


#: Rows of a table with less than this share of its bound are put together.
LEAST_SHARE = 0.002


def by_kernel(kernels: list[Launched], device: Device) -> list[list[str]]:
    """Rows of one step, a kernel each."""
    rows = [["kernel", "launches", "registers", "blocks", "full", "slots", "scalar", "barriers"]]
    rows[0] += ["issue", "memory", "products", "bound"]
    everything = sum(one.sum("seconds") for one in kernels)
    small = [one for one in kernels if one.sum("seconds") < LEAST_SHARE * everything]
    for one in kernels:
        if one not in small:
            full = f"{one.full(device):.0%}"
            cells = [str(len(one.works)), str(one.kernel.resources.registers), str(one.kernel.blocks), full]
            rows.append([one.kernel.name, *cells, *loop_cells(one.kernel), *times([one])])
    if small:
        launches = str(sum(len(one.works) for one in small))
        rows.append([f"{len(small)} others", launches, *[""] * 6, *times(small)])
    rows.append(["all", str(sum(len(one.works) for one in kernels)), *[""] * 6, *times(kernels)])
    return rows


def times(kernels: list[Launched]) -> list[str]:
    return [f"{sum(one.sum(part) for one in kernels):.2f}" for part in ("issue", "memory", "products", "seconds")]


def loop_cells(kernel: Kernel) -> list[str]:
    """Slots, scalar accesses and barriers of the main loop."""
    loop = main_loop(kernel)
    if loop is None:
        return ["-", "-", "-"]
    product = loop.product
    slots = (
        f"{loop.total_slots / product.count:.2f} per {product.kind}" if kernel.multiplies else f"{loop.total_slots:.0f}"
    )
    scalar = loop.count("load scalar") + loop.count("store scalar")
    return [slots, f"{scalar:.0f}", f"{loop.count('barrier'):.0f}"]


def write_check(measured: Path, device: Device, model: str, batch: int, size: tuple[int, int], sources: Path) -> Path:
    """Writes the bounds of the code that `measured`, a file of results, is about: its kernels' sources are given."""
    bounds = {
        dtype: {
            f"{one.kernel.name}_{one.kernel.element}": round(one.sum("seconds"), 4)
            for one in launched_kernels(device, dtype, model, batch, size, sources)
        }
        for dtype in DTYPES
    }
    content = {"device": device.name, "model": model, "batch": batch, "size": size_text(size), "bounds_ms": bounds}
    path = CHECKED / measured.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def checks() -> list[str]:
    """Sections: bounds beside what devices took, of the same code."""
    return [check(path) for path in sorted(CHECKED.glob("*.json")) if (MEASURED / path.name).is_file()]


def check(path: Path) -> str:
    """Section of one device: measured and bound by kernel and type, where both are known."""
    step = json.loads(path.read_text())
    results = json.loads((MEASURED / path.name).read_text())
    columns = []
    for dtype, bounds in step["bounds_ms"].items():
        measured = by_base_name(measured_kernels(results, step, dtype))
        least = by_base_name(bounds)
        columns.append({name: (measured[name], least[name]) for name in least if name in measured})
    names = dict.fromkeys(name for column in columns for name in column)
    head = [f"{dtype}: {part}" for dtype in step["bounds_ms"] for part in ("measured", "bound", "ratio")]
    rows = [["kernel", *head]]
    for name in names:
        rows.append([name, *(cell for column in columns for cell in ratio_cells(column.get(name)))])
    sums = [tuple(map(sum, zip(*column.values()))) for column in columns]
    rows.append(["all of these", *(cell for pair in sums for cell in ratio_cells(pair))])
    return titled(f"Measured on an {step['device']} ({path.stem.rpartition('_')[2]}), in milliseconds", rows)


def by_base_name(kernels: dict[str, float]) -> dict[str, float]:
    """Sums by name without the element type: under autocast some kernels get maps of another type."""
    found: dict[str, float] = {}
    for name, milliseconds in kernels.items():
        base = name.rpartition("_")[0]
        found[base] = found.get(base, 0.0) + milliseconds
    return found


def ratio_cells(pair: tuple[float, float] | None) -> list[str]:
    if pair is None:
        return ["", "", ""]
    measured, least = pair
    return [f"{measured:.2f}", f"{least:.2f}", f"{measured / least:.1f}"]


def measured_kernels(results: dict, step: dict, dtype: str) -> dict[str, float]:
    """Milliseconds by kernel of the lean step in a file of results; of the first where it was measured repeatedly.

    Raises:
        ValueError: it was not measured.
    """
    for one in results["measurements"]:
        options = one["options"]
        same = options.get("method") == "lean" and "variant" not in options and options.get("batch") == step["batch"]
        same = same and options.get("size") == step["size"] and options.get("model", "").endswith(step["model"])
        if one["kind"] == "kernels" and one.get("result") and same and options.get("dtype") == dtype:
            return {name: milliseconds for name, _, milliseconds in one["result"]["kernels"]}
    raise ValueError(f"no kernels of a step in {dtype} are in these results")
