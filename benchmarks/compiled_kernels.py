"""Kernels as compiled for an architecture: their loops, instructions and resources."""

import functools
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from control_flow import ControlFlow
from control_flow import Path as CodePath
from disassembler import disassemble
from kernel_resources import Resources, read_report
from machine_code import parse_ptx, parse_sass
from occupancy import blocks_per_multiprocessor, warps_of

from ladderseg_fast.cuda import images, kernel_sources, nvrtc

#: Oldest architecture that today's disassembler reads; for older ones the instructions are those of PTX.
OLDEST_SASS = 75

_DECLARED = re.compile(r"LADDERSEG_\w*KERNEL\((\w+)")


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture. name has no element type; language is "SASS" or "PTX"."""

    name: str
    element: str
    architecture: int
    language: str
    resources: Resources
    path: CodePath

    @property
    def multiplies(self) -> bool:
        """Whether it computes products of matrices."""
        return "conv" in self.name

    @property
    def blocks(self) -> int:
        """Blocks that a multiprocessor holds at a time."""
        used = self.resources
        return blocks_per_multiprocessor(self.architecture, used.registers, used.shared, used.threads)

    @property
    def warps(self) -> int:
        """Warps of its largest block."""
        return warps_of(self.resources.threads)


def operators(matches: Callable[[str], bool], directory: Path | None = None) -> list[str]:
    """Operators with a kernel whose name matches."""
    directory = images.sources() if directory is None else directory
    return [one for one in kernel_sources.operators(directory) if any(map(matches, declared(one, directory)))]


def declared(operator: str, directory: Path | None = None) -> list[str]:
    """Names of an operator's kernels, without the element type."""
    directory = images.sources() if directory is None else directory
    return _DECLARED.findall((directory / f"{operator}.cu").read_text())


def compile_kernels(
    jobs: Iterable[tuple[str, str, int]], matches: Callable[[str], bool] = bool, directory: Path | None = None
) -> list[Kernel]:
    """Kernels, those whose names match, of the images: operator, element type and architecture.

    Raises:
        NvrtcNotFound, DisassemblerNotFound: a tool is missing.
        RuntimeError: a kernel does not compile.
    """
    directory = images.sources() if directory is None else directory
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        compiled = pool.map(lambda job: compile_image(*job, directory), jobs)
        return [kernel for kernels in compiled for kernel in kernels if matches(kernel.name)]


@functools.cache
def compile_image(operator: str, element: str, architecture: int, directory: Path) -> list[Kernel]:
    """All kernels of one image; compiled once in a process."""
    source = directory / f"{operator}.cu"
    option = ["--ptxas-options=-v"]
    compiled = nvrtc.compile(source, directory, element, f"sm_{architecture}", extra_options=option)
    resources = {one.kernel: one for one in read_report(compiled.log, compiled.ptx, architecture)}
    language = "SASS" if architecture >= OLDEST_SASS else "PTX"
    if language == "SASS":
        functions = parse_sass(disassemble(compiled.image, architecture))
    else:
        functions = parse_ptx(compiled.ptx)
    kernels = []
    for function in functions:
        path = ControlFlow(function).path()
        balance_products(path)
        name = function.name.removesuffix(f"_{element}")
        kernels.append(Kernel(name, element, architecture, language, resources[function.name], path))
    return kernels


def balance_products(path: CodePath) -> None:
    """Sets trips of loops that the code does not tell.

    Where one of the loops side by side in a loop has an unknown number, it multiplies as much as the others: these are
    the two gradients of a backward pass.
    """
    for loop in path.loops:
        balance_products(loop)
        unknown = [inner for inner in loop.loops if inner.product.count and inner.trips is None]
        known = sum(inner.trips * inner.product.multiply_adds for inner in loop.loops if inner.trips is not None)
        if len(unknown) == 1 and known:
            unknown[0].trips = max(1, round(known / unknown[0].product.multiply_adds))
