"""Figures of the kernels' machine code that no change may raise unseen: tests/benchmarks/kernel_ceilings.json."""

import json
from collections.abc import Iterable
from pathlib import Path

from compiled_kernels import Kernel, compile_kernels, operators
from kernel_time import main_loop

from ladderseg_fast.cuda import nvrtc

CEILINGS = Path(__file__).parents[1] / "tests" / "benchmarks" / "kernel_ceilings.json"

#: Architecture and element type of those that the usual tests look at, for kernels that multiply.
QUICK = ((61, "float32"), (80, "float16"))
#: For the slow tests: every kernel on these.
ALL = (*QUICK, (80, "float32"), (90, "float32"), (90, "float16"), (120, "float16"))

Figures = dict[str, dict[str, dict[str, float]]]


def figures(pairs: Iterable[tuple[int, str]], multiply: bool, others: bool) -> Figures:
    """Figures by "sm_90 float16" and kernel, of the kernels that multiply, of the others, or of both."""

    def wanted(name: str) -> bool:
        return multiply if is_product(name) else others

    jobs = [(operator, element, number) for operator in operators(wanted) for number, element in pairs]
    found: Figures = {}
    for kernel in compile_kernels(jobs, wanted):
        found.setdefault(f"sm_{kernel.architecture} {kernel.element}", {})[kernel.name] = figures_of(kernel)
    return found


def is_product(name: str) -> bool:
    return "conv" in name


def figures_of(kernel: Kernel) -> dict[str, float]:
    """Figures of one kernel that must not rise.

    slots: of one trip of the main loop; of a kernel that multiplies per instruction that does so. scalar_loads, local:
    accesses of less than 8 bytes to device memory, and to registers that were spilled, in that trip.
    """
    loop = main_loop(kernel)
    found: dict[str, float] = {"registers": kernel.resources.registers, "shared": kernel.resources.shared}
    if loop is not None:
        per = loop.product.count if kernel.multiplies else 1
        found["slots"] = round(loop.total_slots / per, 3)
        found["scalar_loads"] = loop.count("load scalar")
        found["local"] = loop.count("local")
    return found


def rises(ceilings: Figures, measured: Figures) -> list[str]:
    """Lines about figures above their ceiling, and about kernels that have none."""
    lines = []
    for where, kernels in measured.items():
        for kernel, found in kernels.items():
            known = ceilings.get(where, {}).get(kernel)
            if known is None:
                lines.append(f"{kernel}, {where}: no ceiling")
                continue
            lines += [
                f"{kernel}, {where}: {name} {value}, ceiling {known.get(name, 0)}"
                for name, value in found.items()
                if value > known.get(name, 0)
            ]
    return lines


def write_ceilings(path: Path = CEILINGS) -> None:
    """Makes today's figures the ceilings."""
    content = {"compiler": nvrtc.open_nvrtc().name, "figures": figures(ALL, multiply=True, others=True)}
    lines = [f'{{\n"compiler": {json.dumps(content["compiler"])},\n"figures": {{']
    sections = []
    for where, kernels in sorted(content["figures"].items()):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(kernels.items()))
        sections.append(f"{json.dumps(where)}: {{\n{rows}\n}}")
    path.write_text("\n".join([*lines, ",\n".join(sections), "}", "}"]) + "\n")
