"""Runs the package's CUDA path without a device: LADDERSEG_FAST_EMULATE=sm_80 pytest.

The emulator takes the driver's place, and kernels are given to it as the PTX that NVRTC makes
of them for that architecture, or nvcc with LADDERSEG_FAST_EMULATE=sm_80-nvcc. Tensors on the CPU then go the way of
CUDA tensors.
"""

import ctypes
import os
import shutil
import subprocess

from emulator.library import build_library

from ladderseg_fast.cuda import image_cache, images, kernel_sources, nvrtc
from ladderseg_fast.ops.backend import EmulatedCuda, use

#: The architecture that is emulated ("sm_80"), or None.
CHOICE = os.environ.get("LADDERSEG_FAST_EMULATE")
ARCHITECTURE = CHOICE and CHOICE.removesuffix("-nvcc")

#: Decides in what order threads run; a failure repeats with the seed that is printed at the start.
SEED = int(os.environ.get("LADDERSEG_FAST_EMULATE_SEED", "1"))


def start() -> None:
    """From now on, in this process, CPU tensors are worked on by emulated CUDA kernels."""
    use(emulated_backend())


def emulated_backend() -> EmulatedCuda:
    """The backend of CPU tensors that stands for a device of ARCHITECTURE: for `use`, or `with using(...)`."""
    path = build_library()
    ctypes.CDLL(str(path)).emulator_configure(int(ARCHITECTURE.removeprefix("sm_")), ctypes.c_uint64(SEED))
    return EmulatedCuda(str(path), ptx)


def ptx(name: str, architecture: tuple[int, int], driver_version: int | None = None) -> bytes:
    """The PTX of the kernel image `name`, as an image provider."""
    operator, element = kernel_sources.operator_and_element(name)
    target = f"sm_{architecture[0]}{architecture[1]}"
    directory = images.sources()
    compiler = _nvcc if CHOICE and CHOICE.endswith("-nvcc") else _nvrtc
    facts = ["for the emulator", compiler.__name__, kernel_sources.digest(directory)]
    entry = image_cache.entry_name(name, target, facts)
    image = image_cache.load(entry)
    if image is None:
        image = compiler(directory / f"{operator}.cu", directory, element, target)
        image_cache.store(entry, image)
    return image


def _nvrtc(source, directory, element, target) -> bytes:
    return nvrtc.compile(source, directory, element, target, kind="ptx").image


def _nvcc(source, directory, element, target) -> bytes:
    nvcc = shutil.which("nvcc")
    assert nvcc is not None, "LADDERSEG_FAST_EMULATE asks for nvcc, which is not on PATH"
    arch = target.replace("sm_", "compute_")
    command = [nvcc, "-ptx", "-std=c++17", "-lineinfo", f"-arch={arch}", f"-DLADDERSEG_ELEMENT_{element}=1"]
    return subprocess.run([*command, str(source), "-o", "-"], check=True, capture_output=True).stdout
