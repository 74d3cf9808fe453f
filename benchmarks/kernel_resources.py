"""Resources that each CUDA kernel needs of a multiprocessor, and its occupancy: docs/kernel_resources.md.

Compiles every kernel with NVRTC and reads the assembler's report; needs no GPU. Spills and stack ("local memory") are
not in the table, because no kernel may have any: they end the program with an error.
"""

import argparse
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from occupancy import LIMITS, occupancy

from ladderseg_fast.cuda import images, kernel_sources, nvrtc

ARCHITECTURES = (61, 70, 75, 80, 86, 89, 90, 100, 120)
TABLE = Path(__file__).parents[1] / "docs" / "kernel_resources.md"

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_THREADS = re.compile(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)(?:, (\d+), (\d+))?")


@dataclass(frozen=True)
class Resources:
    """Resources of one kernel on one architecture; shared memory, spills and stack in bytes.

    threads is the largest block, from __launch_bounds__; None without it.
    """

    kernel: str
    architecture: int
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    threads: int | None

    @property
    def local_memory(self) -> int:
        return self.stack + self.spill_stores + self.spill_loads

    @property
    def occupancy(self) -> float:
        return occupancy(self.architecture, self.registers, self.shared, self.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--architectures", type=int, nargs="+", choices=list(LIMITS), default=ARCHITECTURES)
    parser.add_argument("--output", type=Path, default=TABLE, help=f"default: {TABLE.name} in docs")
    options = parser.parse_args()
    resources = measure(options.architectures)
    if problems := obstacles(resources):
        raise SystemExit("\n".join(problems))
    options.output.write_text(document(resources))
    print(options.output)


def measure(architectures: Iterable[int], directory: Path | None = None) -> list[Resources]:
    """Resources of every kernel in `directory` (default: this package's), for every element type.

    Raises:
        RuntimeError: there is no NVRTC for an architecture, or a kernel does not compile.
    """
    directory = images.sources() if directory is None else directory

    def compile_image(job: tuple[str, int]) -> list[Resources]:
        name, architecture = job
        operator, element = kernel_sources.operator_and_element(name)
        source = directory / f"{operator}.cu"
        option = ["--ptxas-options=-v"]
        compiled = nvrtc.compile(source, directory, element, f"sm_{architecture}", extra_options=option)
        return read_report(compiled.log, compiled.ptx, architecture)

    jobs = [(name, number) for name in kernel_sources.image_names(directory) for number in architectures]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [found for report in pool.map(compile_image, jobs) for found in report]


def read_report(log: str, ptx: str, architecture: int) -> list[Resources]:
    """Kernels that the assembler's `log` reports; their block sizes are in `ptx`."""
    threads = {}
    for name, *size in _THREADS.findall(ptx):
        x, y, z = (int(text or 1) for text in size)
        threads[name] = x * y * z
    kernels = _KERNEL.split(log)[1:]
    found = []
    for name, report in zip(kernels[::3], kernels[2::3]):
        stack, stores, loads = map(int, _STACK.search(report).groups())
        shared = _SHARED.search(report)
        found.append(
            Resources(
                kernel=name,
                architecture=architecture,
                registers=int(_USED.search(report)[1]),
                shared=int(shared[1]) if shared else 0,
                stack=stack,
                spill_stores=stores,
                spill_loads=loads,
                threads=threads.get(name),
            )
        )
    return found


def obstacles(resources: Iterable[Resources]) -> list[str]:
    """Lines about what no kernel may have."""
    lines = []
    for one in resources:
        where = f"{one.kernel} on sm_{one.architecture}"
        if one.local_memory:
            spills = f"spills of {one.spill_stores} stored and {one.spill_loads} loaded"
            lines.append(f"{where}: a stack of {one.stack} bytes, {spills}")
        if one.threads is None:
            lines.append(f"{where}: no __launch_bounds__, so that the block size is unknown to the compiler")
        elif one.occupancy == 0:
            lines.append(f"{where}: no block of {one.threads} threads and {one.shared} shared bytes fits")
    return lines


def document(resources: list[Resources]) -> str:
    """Text of docs/kernel_resources.md."""
    architectures = sorted({one.architecture for one in resources})
    lines = [
        "# What the CUDA kernels need of a multiprocessor",
        "",
        "`python benchmarks/kernel_resources.py` writes this page. No kernel spills registers or uses a stack.",
        f"Compiler: {nvrtc.open_nvrtc().name}.",
        "",
        "Each architecture has two numbers: registers per thread, and occupancy. Occupancy is the number of warps of",
        "this kernel that a multiprocessor holds, in percent of all that it can hold. Threads are those of the largest",
        "block; shared is the static shared memory per block, in bytes. A dash: the kernel is not made for this",
        "architecture.",
        "",
        _row(["kernel", "threads", "shared", *(f"sm_{number}" for number in architectures)]),
        "|---|" + "---:|" * (2 + len(architectures)),
        *table_rows(resources).values(),
    ]
    return "\n".join(lines) + "\n"


def table_rows(resources: list[Resources]) -> dict[str, str]:
    """Rows of the table by kernel; a dash if an architecture lacks a kernel."""
    architectures = sorted({one.architecture for one in resources})
    by_kernel: dict[str, dict[int, Resources]] = {}
    for one in resources:
        by_kernel.setdefault(one.kernel, {})[one.architecture] = one
    rows = {}
    for kernel, found in sorted(by_kernel.items()):
        threads, shared = (_values(found.values(), field) for field in ("threads", "shared"))
        cells = [_cell(found.get(number)) for number in architectures]
        rows[kernel] = _row([kernel, threads, shared, *cells])
    return rows


def _values(resources: Iterable[Resources], field: str) -> str:
    """Values of a field, separated if they differ by architecture: "2048/4096"."""
    return "/".join(map(str, sorted({getattr(one, field) for one in resources})))


def _cell(one: Resources | None) -> str:
    return "-" if one is None else f"{one.registers}, {one.occupancy:.0%}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
