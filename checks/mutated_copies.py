"""Copies of the package that take one mistake after the other."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mutant import ROOT, Mutant


class BuildFailed(Exception):
    """CMake or the compiler has failed."""


class PythonCopy:
    """The package's Python files in a folder, with the core that is installed in the repository."""

    def __init__(self, folder: Path) -> None:
        self.package = folder
        ignored = shutil.ignore_patterns("__pycache__", "_images")
        shutil.copytree(ROOT / "ladderseg_fast", folder / "ladderseg_fast", ignore=ignored)

    @contextmanager
    def with_mistake(self, mutant: Mutant) -> Iterator[None]:
        """Within it, the copy has the mistake."""
        path = self.package / mutant.file
        text = path.read_text()
        try:
            path.write_text(mutant.applied(text))
            self._forget(path)
            yield
        finally:
            path.write_text(text)
            self._forget(path)

    @staticmethod
    def _forget(path: Path) -> None:
        """Drops compiled code: another text of the same size and second would be taken for the one it is from."""
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


class CoreCopy:
    """The package with a core that is built for the baseline instruction set, anew for every mistake.

    The folder is kept from run to run: of what is built without a mistake, only what has changed is built again.
    """

    def __init__(self, folder: Path) -> None:
        self._source, self._objects, self._pristine = folder / "source", folder / "cmake", folder / "pristine"
        self.package = folder / "package"
        for name in ("csrc", "CMakeLists.txt"):
            _update(ROOT / name, self._source / name)
        shutil.rmtree(self.package, ignore_errors=True)
        PythonCopy(self.package)
        for library in self.package.glob("ladderseg_fast/_core*.so"):
            library.unlink()
        self._configure()
        self._build()
        shutil.rmtree(self._pristine, ignore_errors=True)
        shutil.copytree(self._objects, self._pristine)

    @contextmanager
    def with_mistake(self, mutant: Mutant) -> Iterator[None]:
        """Within it, the core is built from sources with the mistake.

        Raises:
            BuildFailed: they do not compile.
        """
        path = self._source / mutant.file
        text, times = path.read_text(), path.stat()
        try:
            path.write_text(mutant.applied(text))
            self._build()
            yield
        finally:
            path.write_text(text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            _update(self._pristine, self._objects)
            self._install()

    def _configure(self) -> None:
        import pybind11

        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_INTERPROCEDURAL_OPTIMIZATION": "OFF",  # linking would take longer than compiling
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": self._objects / "library",
            "LADDERSEG_FAST_BASELINE_ONLY": "ON",
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        values = [f"-D{name}={value}" for name, value in options.items()]
        _call("cmake", "-S", self._source, "-B", self._objects, "-G", "Ninja", *values)

    def _build(self) -> None:
        _call("cmake", "--build", self._objects)
        self._install()

    def _install(self) -> None:
        for library in (self._objects / "library").glob("_core*.so"):
            shutil.copyfile(library, self.package / "ladderseg_fast" / library.name)


def _call(*command: str | Path) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise BuildFailed(result.stdout[-4000:])


def _update(source: Path, target: Path) -> None:
    """Makes `target` what `source` is, times included; files that are the same already keep theirs."""
    if source.is_file():
        if not target.exists() or source.read_bytes() != target.read_bytes() or not _same_time(source, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return
    for other in target.iterdir() if target.exists() else ():
        if not (source / other.name).exists():
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    for each in source.iterdir():
        _update(each, target / each.name)


def _same_time(source: Path, target: Path) -> bool:
    return source.stat().st_mtime_ns == target.stat().st_mtime_ns
