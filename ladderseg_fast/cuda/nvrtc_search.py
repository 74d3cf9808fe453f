"""Places where an NVRTC library may be: a list of candidates, none of them opened."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

# Newest first: for torch without CUDA, which prefers none.
MAJORS = (13, 12, 11)

# libnvrtc.so.12, and libnvrtc-b51b459d.so.12 as in some wheels of torch; not libnvrtc-builtins, not libnvrtc.alt.
_LIBRARY = re.compile(r"libnvrtc(-[0-9a-f]{6,16})?\.so\.(\d+)[0-9.]*")


def preferred_majors(torch_cuda: str | None) -> list[int]:
    """Major versions of CUDA in the order of preference: first that of torch, such as "12.8"."""
    majors = list(MAJORS)
    if torch_cuda is not None and (own := int(torch_cuda.split(".")[0])) in majors:
        majors.remove(own)
        majors.insert(0, own)
    return majors


def candidates(
    torch_cuda: str | None = torch.version.cuda,
    torch_directory: Path = Path(torch.__file__).parent,
    packages: Iterable[Path] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[str]:
    """Libraries to try, in this order: torch's own, those of the environment's packages, CUDA_HOME, the loader's.

    Each is a path, or a name that the dynamic loader looks up. Within a place, torch's major version comes first.
    """
    majors = preferred_majors(torch_cuda)
    if torch_cuda is not None:
        yield from _libraries([torch_directory / "lib"], majors[:1])
    if packages is None:
        # Where torch looks for its own libraries of CUDA. The empty entry is the working directory.
        packages = [Path(entry) for entry in sys.path if entry]
    folders = [folder for package in packages for folder in sorted(package.glob("nvidia/*/lib"))]
    yield from _libraries([*folders, Path(sys.prefix, "lib")], majors)
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if environment.get(variable):
            yield from _libraries([Path(environment[variable], lib) for lib in ("lib64", "lib")], majors)
    # The files of CUDA 11 are named after its last change of interface.
    yield from (f"libnvrtc.so.{'11.2' if major == 11 else major}" for major in majors)


def _libraries(folders: Iterable[Path], majors: list[int]) -> Iterator[str]:
    """The files named like NVRTC in `folders`, sorted by the order of `majors`; others are left out."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("libnvrtc*.so.*")):
            match = _LIBRARY.fullmatch(path.name)
            if match and int(match[2]) in majors:
                found.append((majors.index(int(match[2])), str(path)))
    # sorted() keeps the order of the folders within a version.
    yield from (path for _, path in sorted(found, key=lambda pair: pair[0]))
