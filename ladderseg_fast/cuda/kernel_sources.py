"""Sources and options of the CUDA kernels, the same for the package's build and for the compilation at first use.

Imports only Python's own library: the build loads this file by its path, where torch does not exist.
"""

import hashlib
import re
import shutil
from pathlib import Path

ELEMENTS = ("float32", "float64", "float16", "bfloat16")

#: How a kernel includes a header that it shares with the rest of the core.
_SHARED = re.compile(rb'^#include "(ladderseg/[^"]+)"', flags=re.MULTILINE)


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


def include_options(directory: Path) -> list[str]:
    """The include directories as options of nvcc and NVRTC: the kernels' own, and that of the headers they share."""
    return [f"-I{directory}", f"-I{_shared_root(directory)}"]


def files(directory: Path) -> dict[str, Path]:
    """All that the kernels in `directory` are compiled from, by the name that an #include gives a header."""
    own = {path.name: path for path in sorted(directory.iterdir()) if path.suffix in (".cu", ".cuh", ".h")}
    shared = {name.decode() for path in own.values() for name in _SHARED.findall(path.read_bytes())}
    return own | {name: _shared_root(directory) / name for name in sorted(shared)}


def copy(directory: Path, target: Path) -> None:
    """Copies these files to `target`, where they compile by themselves."""
    for name, path in files(directory).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def digest(directory: Path) -> str:
    """A hash of these files. Headers count for every image: which one includes which is not tracked."""
    result = hashlib.sha256()
    for name, path in files(directory).items():
        content = path.read_bytes()
        result.update(f"{name} {len(content)}\n".encode())
        result.update(content)
    return result.hexdigest()


def _shared_root(directory: Path) -> Path:
    """The directory that holds ladderseg/: the kernels' own in a copy, the core's in the source tree."""
    return directory if (directory / "ladderseg").is_dir() else directory.parents[1] / "include"
