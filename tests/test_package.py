"""The installed package as a whole: what importing it loads, and what the compiled core depends on."""

import importlib.metadata
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import ladderseg_fast
from ladderseg_fast import _core


def run_python(code: str, directory: Path) -> str:
    """Standard output of `code` in a fresh interpreter; `directory` keeps source trees off its search path."""
    result = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def dynamic_strings(path: Path) -> list[str]:
    """The strings of an ELF64 file's dynamic section: names of needed libraries and of dynamic symbols."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", "not a little-endian ELF64 file"
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<3H", data, 0x3A)
    # Of each section header: offset of the name, offset and size of the contents.
    sections = [struct.unpack_from("<I20xQQ", data, table + i * size) for i in range(count)]
    names = sections[names_index][1]
    for name, offset, length in sections:
        if data[names + name :].startswith(b".dynstr\0"):
            return data[offset : offset + length].decode().split("\0")
    raise AssertionError(f"{path} has no section .dynstr")


@pytest.fixture(scope="module")
def core_strings() -> list[str]:
    return dynamic_strings(Path(_core.__file__))


def test_version_is_one():
    assert ladderseg_fast.__version__ == importlib.metadata.version("ladderseg_fast")
    assert _core.build_info()["version"] == ladderseg_fast.__version__


def test_core_needs_no_torch_cuda_or_openmp_library(core_strings):
    libraries = [text for text in core_strings if re.search(r"\.so(\.|$)", text)]
    assert any(name.startswith("libstdc++") for name in libraries), "the needed libraries were not found"
    assert [name for name in libraries if re.match(r"lib(torch|c10|cu|nv|gomp|iomp|omp)", name)] == []


def test_core_has_no_torch_symbols(core_strings):
    # The mangled name of anything in namespace at, c10 or torch, itself or among its arguments, holds one of these.
    assert [text for text in core_strings if re.search(r"N[KVRO]*(2at|3c10|5torch)\d", text)] == []


def test_core_uses_openmp(core_strings):
    assert any(text.startswith("GOMP_parallel") for text in core_strings)


def test_import_adds_no_openmp_runtime(tmp_path):
    code = """
import torch, ladderseg_fast
from ladderseg_fast.info import openmp_runtimes
print(*openmp_runtimes(), sep="\\n")
"""
    runtimes = run_python(code, tmp_path).splitlines()
    assert len(runtimes) == 1, runtimes


def test_import_leaves_cuda_alone(tmp_path):
    code = """
import re, torch
def libraries():
    return set(re.findall(r"lib(?:cuda|nvrtc)[^/]*[.]so", open("/proc/self/maps").read()))
before = libraries()
import ladderseg_fast, ladderseg_fast.info
print(libraries() - before, torch.cuda.is_initialized())
"""
    assert run_python(code, tmp_path).split() == ["set()", "False"]


def test_import_is_quiet(tmp_path):
    code = "import ladderseg_fast"
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
