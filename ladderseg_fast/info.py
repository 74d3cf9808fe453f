"""Facts about this installation, to be pasted into a bug report: `python -m ladderseg_fast.info`."""

import platform
import sys
from pathlib import Path

import torch

from . import _core
from ._openmp import openmp_runtimes
from ._version import __version__
from .cuda import images
from .lean import tensor_guards
from .memory.rates import load_rates


def info() -> dict[str, str]:
    """The facts about this installation, in the order in which `main` prints them."""
    build = _core.build_info()
    return {
        "version": __version__,
        "package": str(Path(__file__).parent),
        "core": f"{build['version']}, {Path(_core.__file__).name}",
        "compiler": f"{build['compiler']}, C++ standard {build['cxx_standard']}, {build['build_type']}",
        "instruction sets compiled in": build["instruction_sets"],
        "supported by this CPU": " ".join(_core.supported_instruction_sets()),
        "in use": _core.instruction_set(),
        "bfloat16 on the CPU": _bfloat16(),
        "CUDA kernels": images.describe(),
        "lean steps on GPUs": _steps(),
        "cost model of memory plans": _cost_model(),
        "torch": f"{torch.__version__}, {Path(torch.__file__).parent}",
        "torch threads": str(torch.get_num_threads()),
        "OpenMP runtime": ", ".join(openmp_runtimes()) or "none",
        "Python": f"{platform.python_version()}, {sys.executable}",
        "platform": platform.platform(),
    }


def _bfloat16() -> str:
    """Whether lean models follow torch.autocast to bfloat16 on the CPU."""
    if _core.has_bfloat16():
        return "yes, with torch.autocast"
    for where, names in {
        "this build": _core.build_info()["instruction_sets"].split(),
        "this CPU": _core.supported_instruction_sets(),
    }.items():
        if "avx512_bf16" not in names:
            return f"no: {where} has no AVX512-BF16"
    return f"no: {_core.instruction_set()} is in use"


def _steps() -> str:
    """Whether later steps on GPUs take less of the host's time than the first."""
    return "repeated" if tensor_guards.are_available() else "interpreted, since this torch has no TensorGuards as known"


def _cost_model() -> str:
    """Source of the rates that memory plans on the CPU are compared by."""
    try:
        return load_rates(torch.device("cpu"), torch.float32).source
    except ValueError as error:
        return f"none: {error}"


def main() -> None:
    """Prints `info()`, one aligned line per fact."""
    facts = info()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")


if __name__ == "__main__":
    main()
