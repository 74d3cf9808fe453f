"""Builds the C++ core with CMake as the extension module `ladderseg_fast._core`, and the images of the CUDA kernels.

Everything else about the package is in pyproject.toml.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

GET_COMPILER = "apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)"

COMPILER_PROBE = """
#if __cplusplus < 201703L
#error C++17 is missing
#elif !defined(__GNUC__)
#error not GNU C++ or clang++
#endif
#include <optional>
"""


def stop(missing: str, remedy: str) -> None:
    """Ends the build with a short message instead of a traceback."""
    sys.exit(f"\nladderseg_fast: cannot compile its C++ core\n  missing: {missing}\n  remedy:  {remedy}\n")


def find_compiler() -> str:
    """Command of the C++ compiler, from the environment variable CXX or the search path."""
    chosen = os.environ.get("CXX")
    if chosen:
        if shutil.which(shlex.split(chosen)[0]) is None:
            remedy = f"unset CXX, or set it to an existing g++; {GET_COMPILER}"
            stop(f"the C++ compiler that CXX names, {chosen}", remedy)
        return chosen
    for name in ("c++", "g++"):
        path = shutil.which(name)
        if path is not None:
            return shlex.quote(path)
    stop("a C++ compiler (there is no c++ or g++ on PATH, and CXX is not set)", GET_COMPILER)


def check_compiler(compiler: str) -> None:
    """Stops unless `compiler` can build the core."""
    command = [*shlex.split(compiler), "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    probe = subprocess.run(command, input=COMPILER_PROBE, text=True, capture_output=True)
    if probe.returncode != 0:
        reason = next((line for line in probe.stderr.splitlines() if "error" in line), "it fails").strip()
        stop(
            f"GNU C++ 8 or newer, or a recent clang++ (C++17); {compiler} says: {reason}",
            f"{GET_COMPILER}; another compiler is chosen with CXX=g++-12, for example",
        )


def check_python_headers() -> None:
    """Stops unless Python's C headers are installed."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        stop(f"Python's C headers ({header})", "apt-get install python3-dev or dnf install python3-devel")


def find_tool(name: str) -> str:
    """Path of a build tool that pip puts into its build environment."""
    path = shutil.which(name)
    if path is None:
        stop(f"the program {name}", "pip install cmake ninja pybind11, or install without --no-build-isolation")
    return path


def load_build_images() -> ModuleType:
    """Loads csrc/cuda/build_images.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("build_images", ROOT / "csrc" / "cuda" / "build_images.py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the module of a class.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def keep_pybind11(build: Path) -> Path:
    """Path of pybind11's CMake files in a copy of its headers, which the next build finds where this one did.

    Pip's build environments have another path each time, with which everything that names it would be compiled again.
    """
    import pybind11

    package, cmake = Path(pybind11.__file__).parent, Path(pybind11.get_cmake_dir())
    if package not in cmake.parents:
        return cmake  # a distribution's, which stays where it is
    kept = build / f"pybind11-{pybind11.__version__}"
    if not kept.is_dir():
        unfinished = build / "pybind11.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package, unfinished, ignore=shutil.ignore_patterns("__pycache__"))
        unfinished.rename(kept)
    return kept / cmake.relative_to(package)


class CMakeBuild(build_ext):
    """Builds CMakeLists.txt, so that the extension module lands where setuptools wants it, and the CUDA kernels."""

    def build_extension(self, ext: Extension) -> None:
        compiler = find_compiler()
        check_compiler(compiler)
        check_python_headers()
        cmake, _ = find_tool("cmake"), find_tool("ninja")
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        self.add_cuda_kernels(output, compiler)
        build = Path(self.build_temp).resolve() / "cmake"
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={keep_pybind11(build.parent)}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
            f"-DLADDERSEG_FAST_VERSION={self.distribution.get_version()}",
        ]
        # The cache names the tools of pip's last build environment, which is gone, and a compiler that may be another.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        # Ninja's own choice, two more than there are processors, takes a fifth longer on two of them.
        processors = {"CMAKE_BUILD_PARALLEL_LEVEL": str(len(os.sched_getaffinity(0)))}
        for command in (configure, [cmake, "--build", str(build)]):
            result = subprocess.run(command, env=processors | os.environ | {"CXX": compiler})
            if result.returncode != 0:
                failed = shlex.join(command[:2])
                sys.exit(f"\nladderseg_fast: cannot compile its C++ core: {failed} failed, see above\n")

    def add_cuda_kernels(self, package: Path, compiler: str) -> None:
        """Adds images, if there is nvcc, and the sources, unless the package is used in this tree."""
        build_images = load_build_images()
        try:
            build_images.add_kernels(package, compiler)
        except build_images.BuildError as error:
            sys.exit(f"\nladderseg_fast: cannot compile its CUDA kernels\n{error}\n")
        if not self.inplace:
            build_images.copy_sources(package)


setup(ext_modules=[Extension("ladderseg_fast._core", sources=[])], cmdclass={"build_ext": CMakeBuild})
