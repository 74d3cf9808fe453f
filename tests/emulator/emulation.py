"""The package's CUDA path without a device: in ``with using(emulated("sm_80")):`` tensors on the CPU go the way of CUDA
tensors. The emulator takes the driver's place, and kernels are given to it as the PTX that a compiler makes of them.
"""

import atexit
import ctypes
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator.library import build_library
from support.compiled import kept_file
from support.kernel_images import compiled_image

from ladderseg_fast.cuda import images, kernel_sources, nvrtc
from ladderseg_fast.ops.backend import EmulatedCuda

#: Decides in what order threads run.
SEED = int(os.environ.get("LADDERSEG_FAST_EMULATOR_SEED", "1"))

ImageProvider = Callable[[str, tuple[int, int], int], bytes]


class Emulator(EmulatedCuda):
    """A device of an architecture ("sm_80"); it starts afresh whenever it is chosen, so that failures repeat."""

    def __init__(self, architecture: str, provider: ImageProvider) -> None:
        self._capability = int(architecture.removeprefix("sm_"))
        # What the core has loaded it keeps by the path of the driver.
        driver = _drivers() / f"driver{next(_numbers)}.so"
        driver.symlink_to(build_library())
        super().__init__(str(driver), provider)

    def begin(self) -> None:
        ctypes.CDLL(str(build_library())).emulator_configure(self._capability, ctypes.c_uint64(SEED))
        super().begin()


@functools.cache
def emulated(architecture: str) -> Emulator:
    """The device of an architecture, "sm_80" or, for kernels compiled by nvcc, "sm_80-nvcc".

    Skips the test if there is no compiler for it.
    """
    name, _, compiler = architecture.partition("-")
    require_compiler(name, compiler)
    return Emulator(name, functools.partial(ptx, compiler=compiler))


def require_compiler(architecture: str, compiler: str = "") -> None:
    """Skip the test unless "nvcc", if it is asked for, or NVRTC compiles for the architecture."""
    if compiler == "nvcc":
        if shutil.which("nvcc") is None:
            pytest.skip("nvcc is not on PATH")
        return
    try:
        found = nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))
    if int(architecture.removeprefix("sm_")) not in found.architectures:
        pytest.skip(f"{found.name} does not compile for {architecture}")


def ptx(
    name: str,
    architecture: tuple[int, int],
    driver_version: int | None = None,
    *,
    compiler: str = "",
    directory: Path | None = None,
) -> bytes:
    """The PTX of the kernel image `name`, from the package's sources or those in `directory`, as an image provider."""
    number = f"{architecture[0]}{architecture[1]}"
    if compiler == "nvcc":
        return _ptx_by_nvcc(name, number, directory or images.sources())
    return compiled_image(name, f"sm_{number}", directory, "ptx").ptx.encode()


def _ptx_by_nvcc(name: str, number: str, directory: Path) -> bytes:
    operator, element = kernel_sources.operator_and_element(name)
    command = ["nvcc", "-ptx", "-lineinfo", f"-arch=compute_{number}", *kernel_sources.options(element)]
    command += [*kernel_sources.include_options(directory), str(directory / f"{operator}.cu"), "-o", "-"]

    def write(path: Path) -> None:
        path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)

    return kept_file(f"{name}.ptx", [number, "nvcc", kernel_sources.digest(directory)], write).read_bytes()


_numbers = itertools.count()


@functools.cache
def _drivers() -> Path:
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    return Path(directory.name)
