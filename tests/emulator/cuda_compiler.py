"""CUDA C to PTX: by nvcc if there is one, else by NVRTC from the package nvidia-cuda-nvrtc-cu12."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.compiled import kept_file


@functools.cache
def ptx_of(source: str, architecture: int = 80, prefer_nvrtc: bool = False) -> str:
    """PTX with line information. Skips the test if no compiler is there for the architecture."""
    nvrtc, nvcc = _nvrtc(), shutil.which("nvcc")
    if nvcc and not prefer_nvrtc and _nvcc_knows(nvcc, architecture):
        compiler, compile_source = _nvcc_version(nvcc), functools.partial(_by_nvcc, nvcc)
    elif nvrtc is not None:
        compiler, compile_source = _nvrtc_version(nvrtc), functools.partial(_by_nvrtc, nvrtc)
    else:
        pytest.skip(f"no CUDA compiler for compute_{architecture}")

    def write(path: Path) -> None:
        path.write_text(compile_source(source, architecture))

    return kept_file("kernel.ptx", [compiler, str(architecture), source], write).read_text()


def _nvcc_version(nvcc: str) -> str:
    return subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout


def _nvrtc_version(nvrtc: ctypes.CDLL) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0
    return f"NVRTC {major.value}.{minor.value}"


@functools.cache
def _nvcc_knows(nvcc: str, architecture: int) -> bool:
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=False).stdout
    return f"compute_{architecture}\n" in known


def _by_nvcc(nvcc: str, source: str, architecture: int) -> str:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernel.cu"
        path.write_text(source)
        command = [nvcc, "-ptx", "-std=c++17", "-lineinfo", f"-arch=compute_{architecture}", str(path), "-o", "-"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@functools.cache
def _nvrtc() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("nvidia")
    for base in spec.submodule_search_locations if spec else ():
        for path in sorted(Path(base).glob("cuda_nvrtc/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def _by_nvrtc(nvrtc: ctypes.CDLL, source: str, architecture: int) -> str:
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    options = [b"-std=c++17", b"-lineinfo", f"--gpu-architecture=compute_{architecture}".encode()]
    options += [f"-I{path}".encode() for path in _toolkit_headers()]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    assert status == 0, _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    ptx = _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def _toolkit_headers() -> list[Path]:
    nvcc = shutil.which("nvcc")
    paths = [Path(nvcc).resolve().parents[1] / "include"] if nvcc else []
    return [path for path in paths if path.exists()]


def _text(size_of, get, program) -> str:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.value.decode()
