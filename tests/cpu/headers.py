"""The exports of this directory's C++ files: the parts that the CPU's kernels are made of, one by one."""

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
from support.compiled import shared_library

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: dtypes of numpy, by their names in C++.
ELEMENTS = {"float": np.float32, "double": np.float64}


class Headers:
    """Calls the functions of a library with arrays and numbers; floats are passed as its Element."""

    def __init__(self, library: Path, element: str) -> None:
        self.dtype = np.dtype(ELEMENTS[element])
        self._library = ctypes.CDLL(str(library))
        self._number = ctypes.c_float if element == "float" else ctypes.c_double

    def call(self, function: str, *arguments: Any) -> int:
        """Its result, if it has one: an int64."""
        pointer = getattr(self._library, function)
        pointer.restype = ctypes.c_int64
        return pointer(*map(self._converted, arguments))

    def _converted(self, argument: Any) -> Any:
        if argument is None or isinstance(argument, np.ndarray):
            return ctypes.c_void_p(None if argument is None else argument.ctypes.data)
        if isinstance(argument, bool):
            return ctypes.c_bool(argument)
        return self._number(argument) if isinstance(argument, float) else ctypes.c_int64(argument)

    def random(self, *shape: int, seed: int = 0) -> np.ndarray:
        """Uniform in [-1, 1)."""
        return np.random.default_rng(seed).uniform(-1, 1, shape).astype(self.dtype)

    def empty(self, *shape: int) -> np.ndarray:
        """NaN: what is not written is seen."""
        return np.full(shape, np.nan, self.dtype)

    def assert_near(self, actual: np.ndarray, expected: np.ndarray, terms: int = 1) -> None:
        """Equal up to the rounding of sums of `terms` numbers of about 1."""
        np.testing.assert_allclose(actual, expected, rtol=0, atol=terms * 4 * np.finfo(self.dtype).eps)


def load_headers(instruction_set: str, element: str) -> Headers:
    """The headers as CMakeLists.txt compiles the kernels for an instruction set, but with -O1: in half the time."""
    text = (ROOT / "CMakeLists.txt").read_text()
    (common,) = re.findall(r"^set\(KERNEL_OPTIONS ([^)]*)\)", text, re.MULTILINE)
    ((vector_bytes, own),) = re.findall(rf"^ *add_kernels\({instruction_set} (\d+)([^)]*)\)", text, re.MULTILINE)
    flags = [
        *("-std=c++17", *common.split(), *own.split(), "-O1"),
        *(f"-DLADDERSEG_ISA={instruction_set}", f"-DLADDERSEG_VECTOR_BYTES={vector_bytes}"),
        f"-DLADDERSEG_TEST_ELEMENT={element}",
        *(f"-I{ROOT / 'csrc' / 'include'}", f"-I{ROOT / 'csrc' / 'cpu'}"),
    ]
    read = [*HERE.glob("*.h"), *(ROOT / "csrc" / "cpu").glob("*.h"), *(ROOT / "csrc" / "include").rglob("*.h")]
    sources = sorted(HERE.glob("*.cpp"))
    return Headers(shared_library(f"headers_{instruction_set}_{element}", flags, sources, read), element)
