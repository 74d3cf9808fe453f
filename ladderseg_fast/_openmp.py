"""The OpenMP runtime in this process: the core is linked with none, and uses the one that torch has loaded.

Most builds of torch let everybody see its functions. Those that bring a runtime of their own may keep it to
themselves, as torch's wheels for 64-bit Arm do: then it is made visible before the core is loaded, which would not
find it otherwise, or would start a second pool of threads with another.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

_LIBRARIES = ("libgomp", "libiomp", "libomp")


def openmp_runtimes() -> list[str]:
    """Paths of the OpenMP runtimes that this process has mapped. More than one means two pools of threads."""
    return sorted({path for _, path in _mappings() if Path(path).name.startswith(_LIBRARIES)})


def share_openmp_runtime() -> None:
    """Makes the functions of torch's OpenMP runtime visible to libraries that are loaded from now on.

    Raises:
        ImportError: torch is built without OpenMP.
    """
    if not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
        ctypes.CDLL(openmp_runtime_of(library), mode=ctypes.RTLD_GLOBAL)


def openmp_runtime_of(library: Path) -> str:
    """Path of the OpenMP runtime whose functions `library`, which is loaded, calls.

    Raises:
        ImportError: it is linked with none.
    """
    try:
        function = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"torch {torch.__version__} has no OpenMP runtime that the core of {__package__} could use: {error}. "
            "Install a torch that is built with OpenMP; torch.__config__.parallel_info() tells."
        ) from error
    address = ctypes.cast(function, ctypes.c_void_p).value
    return next(path for addresses, path in _mappings() if address in addresses)


def _mappings() -> Iterator[tuple[range, str]]:
    """Addresses and path of every part of a file that this process has mapped."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        # addresses, permissions, offset, device, inode, and, for a mapped file, its path
        fields = line.split(maxsplit=5)
        if len(fields) == 6:
            begin, end = fields[0].split("-")
            yield range(int(begin, 16), int(end, 16)), fields[5]
