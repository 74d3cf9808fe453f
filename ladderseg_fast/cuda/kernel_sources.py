"""Sources and options of the CUDA kernels, the same for the package's build and for the compilation at first use.

Imports only Python's own library: the build loads this file by its path, where torch does not exist.
"""

import hashlib
from pathlib import Path

ELEMENTS = ("float32", "float64", "float16", "bfloat16")


def operators(directory: Path) -> list[str]:
    """Names of the operators whose kernels are in `directory`: one .cu each."""
    return sorted(path.stem for path in directory.glob("*.cu"))


def image_names(directory: Path) -> list[str]:
    """Names of all images, such as "bn_relu_float32"."""
    return [f"{operator}_{element}" for operator in operators(directory) for element in ELEMENTS]


def operator_and_element(name: str) -> tuple[str, str]:
    """Operator and element type of an image: ("bn_relu", "float32") for "bn_relu_float32".

    Raises:
        ValueError: the name does not end in an element type.
    """
    operator, _, element = name.rpartition("_")
    if not operator or element not in ELEMENTS:
        raise ValueError(f"image names are <operator>_<element> with an element of {', '.join(ELEMENTS)}, got {name!r}")
    return operator, element


def options(element: str) -> list[str]:
    """Options for nvcc and NVRTC alike, besides the architecture and the include directory."""
    return ["-std=c++17", f"-DLADDERSEG_ELEMENT_{element}=1"]


def digest(directory: Path) -> str:
    """Hash of all sources in `directory`. Headers count for every image: no record says which one includes which."""
    result = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.suffix in (".cu", ".cuh", ".h")):
        content = path.read_bytes()
        result.update(f"{path.name} {len(content)}\n".encode())
        result.update(content)
    return result.hexdigest()
