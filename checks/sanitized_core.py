"""The package with a core that GCC's sanitizers watch, built beside the installed one."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What `-fsanitize` and the runtime library are called, by kind.
ADDRESS, THREAD = "address", "thread"
_FLAGS = {ADDRESS: "address,undefined", THREAD: "thread"}
_LIBRARIES = {ADDRESS: "libasan.so", THREAD: "libtsan.so"}

#: Races that ThreadSanitizer reports only because torch and its OpenMP runtime are not compiled under it: of them it
#: sees nothing but calls of libc. If both accesses are the core's, neither library is in the report.
_THREAD_SUPPRESSIONS = """\
# Torch copies, clears and frees maps in its own teams of threads, whose end, which orders that before the core's
# accesses, is not seen.
race:libtorch_cpu.so
# The OpenMP runtime frees its own structures.
race:libgomp.so
# The C library frees thread-local variables of a thread that has ended in another one, behind a lock of its own.
race:_dl_deallocate_tls
"""


class BuildFailed(Exception):
    """The compiler or CMake has failed."""


def build(kind: str, every_instruction_set: bool) -> Path:
    """Builds the core under a sanitizer, or what has changed of it; returns the folder that has the package.

    Args:
        kind: ADDRESS or THREAD.
        every_instruction_set: if false, the kernels are compiled for the baseline alone, in a quarter of the time.

    Raises:
        BuildFailed: there is no GCC, no CMake, or one of them fails.
    """
    place = ROOT / "build" / "sanitized" / (kind if every_instruction_set else f"{kind}-baseline")
    package, objects = place / "package", place / "cmake"
    shutil.rmtree(package / "ladderseg_fast", ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "_images")
    shutil.copytree(ROOT / "ladderseg_fast", package / "ladderseg_fast", ignore=ignored)
    if not (package / "csrc").exists():
        (package / "csrc").symlink_to(ROOT / "csrc")  # the CUDA kernels' sources, which emulated devices compile
    configure = [
        *("cmake", "-S", ROOT, "-B", objects, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={_pybind11()}"),
        f"-DLADDERSEG_FAST_SANITIZE={_FLAGS[kind]}",
        f"-DLADDERSEG_FAST_BASELINE_ONLY={'OFF' if every_instruction_set else 'ON'}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={objects}",
    ]
    for command in (configure, ["cmake", "--build", objects]):
        variables = os.environ | {"CXX": compiler()}
        result = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            raise BuildFailed(f"{shlex.join(map(str, command))}\n{result.stdout[-4000:]}")
    for library in objects.glob("_core*.so"):
        shutil.copyfile(library, package / "ladderseg_fast" / library.name)
    return package


def environment(kind: str, package: Path, reports: Path) -> dict[str, str]:
    """Variables of a process that imports the package from `package`.

    What a sanitizer finds ends the process with a status, or goes on, and is written to files that begin with
    `reports`.
    """
    runtime = [_file_of_compiler(_LIBRARIES[kind])]
    common = f"exitcode=86:log_path={reports}"
    variables = dict(os.environ)
    if kind == ADDRESS:
        # libstdc++ too: its functions for exceptions are looked up when the runtime starts, before Python loads it.
        runtime.append(_file_of_compiler("libstdc++.so.6"))
        # Fresh memory is NaN: results show it if it is read before it is written. Python leaks by design.
        fill = f"max_malloc_fill_size={(1 << 31) - 1}:malloc_fill_byte=255"
        variables["ASAN_OPTIONS"] = f"{common}:detect_leaks=0:allocator_may_return_null=1:{fill}"
        variables["UBSAN_OPTIONS"] = f"{common}:print_stacktrace=1"
        # For what tests compile, such as the headers of csrc/cpu. The compiler itself is not to be watched.
        variables["CXX"] = f"env -u LD_PRELOAD {compiler()} -fsanitize={_FLAGS[kind]} -fno-sanitize-recover=all"
    else:
        suppressions = package.parent / "suppressions"
        suppressions.write_text(_THREAD_SUPPRESSIONS)
        variables["TSAN_OPTIONS"] = f"{common}:suppressions={suppressions}:history_size=4"
    return variables | {"LD_PRELOAD": ":".join(runtime), "PYTHONPATH": str(package)}


def compiler() -> str:
    """g++, or the one that CXX names."""
    return shlex.split(os.environ.get("CXX", "g++"))[0]


def found(reports: Path) -> list[str]:
    """Beginning of each report that a sanitizer has written."""
    paths = sorted(reports.parent.glob(f"{reports.name}.*"))
    return [path.read_text(errors="replace")[:6000] for path in paths]


def _pybind11() -> str:
    import pybind11

    return str(pybind11.get_cmake_dir())


def _file_of_compiler(name: str) -> str:
    """Path of a library of the compiler.

    Raises:
        BuildFailed: it has none of this name.
    """
    command = [compiler(), f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        raise BuildFailed(f"{compiler()} has no {name}; it comes with GCC's libasan and libtsan")
    return path
