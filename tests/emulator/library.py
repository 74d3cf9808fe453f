"""Builds the CUDA emulator of src/, a stand-in for libcuda.so."""

from pathlib import Path

from support.compiled import shared_library

SOURCES = Path(__file__).resolve().parent / "src"
# -ffp-contract=off: an fma is one only where PTX says so. -fno-math-errno and -fno-trapping-math let the loops over
# lanes be vectorised; neither changes a result.
FLAGS = [
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fno-strict-aliasing", "-fvisibility=default",
]  # fmt: skip


def build_library() -> Path:
    """The library's path.

    Raises:
        RuntimeError: if the compiler fails; its messages are in the text.
    """
    return shared_library("libcuda_emulator", FLAGS, sorted(SOURCES.glob("*.cpp")), SOURCES.glob("*.h"))
