"""csrc/cuda/build_images.py: how the build finds nvcc, for what it compiles, and what it says when it cannot."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.toy_kernels import write_toy_kernels

from ladderseg_fast.cuda import kernel_sources
from ladderseg_fast.cuda.ahead_of_time import read_manifest

BUILD_IMAGES = Path(__file__).parents[2] / "csrc" / "cuda" / "build_images.py"
KNOWN_13 = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)


@pytest.fixture(scope="module")
def build_images() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_images", BUILD_IMAGES)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels(tmp_path: Path, build_images: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = write_toy_kernels(tmp_path / "kernels")
    monkeypatch.setattr(build_images, "KERNELS", directory)
    return directory


def program(path: Path, *lines: str) -> str:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return str(path)


def pretended_nvcc(path: Path, version: str = "13.0.88", compiling: str = "exit 1") -> str:
    """A script that answers as nvcc does, and runs `compiling` for anything but questions."""
    return program(
        path,
        'case "$1" in',
        f'--version) echo "Cuda compilation tools, release X, V{version}";;',
        '--list-gpu-arch) printf "compute_80\\ncompute_90\\n";;',
        f"*) {compiling};;",
        "esac",
    )


def test_nvcc_is_found_in_order(tmp_path, build_images):
    packages = tmp_path / "site-packages"
    environment = {"PATH": str(tmp_path / "bin")}
    find = build_images.find_nvcc
    assert find(environment, packages) is None
    twelve = program(packages / "nvidia" / "cuda_nvcc" / "bin" / "nvcc")
    assert find(environment, packages) == twelve
    thirteen = program(packages / "nvidia" / "cu13" / "bin" / "nvcc")
    assert find(environment, packages) in (twelve, thirteen)
    on_path = program(tmp_path / "bin" / "nvcc")
    assert find(environment, packages) == on_path
    environment["CUDA_HOME"] = str(tmp_path / "cuda")
    assert find(environment, packages) == on_path, "CUDA_HOME may be a runtime without a compiler"
    in_home = program(tmp_path / "cuda" / "bin" / "nvcc")
    assert find(environment, packages) == in_home
    environment["CUDACXX"] = program(tmp_path / "another")
    assert find(environment, packages) == environment["CUDACXX"]
    environment["CUDACXX"] = str(tmp_path / "absent")
    with pytest.raises(build_images.BuildError, match="CUDACXX names .*absent"):
        find(environment, packages)


def test_usual_architectures_are_those_that_nvcc_knows(build_images):
    choose, nvcc = build_images.choose_architectures, build_images.Nvcc
    assert choose("", nvcc("nvcc", "13.0.88", KNOWN_13)) == ([75, 80, 90, 120], [90])
    known_12_4 = (50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90)
    assert choose("", nvcc("nvcc", "12.4.131", known_12_4)) == ([61, 70, 75, 80, 90], [90])
    with pytest.raises(build_images.BuildError, match="none of the usual"):
        choose("", nvcc("nvcc", "99.0.0", (200,)))


@pytest.mark.parametrize("setting", ["80;90+PTX", "8.0 9.0+PTX", "90+ptx, 80", "80;90;90+PTX;"])
def test_architectures_are_chosen_by_the_environment(setting, build_images):
    nvcc = build_images.Nvcc("nvcc", "13.0.88", KNOWN_13)
    assert build_images.choose_architectures(setting, nvcc) == ([80, 90], [90])


@pytest.mark.parametrize("setting", ["61", "sm_80", "80;all", "PTX"])
def test_unknown_architecture_ends_the_build(setting, build_images):
    nvcc = build_images.Nvcc("/usr/bin/nvcc", "13.0.88", KNOWN_13)
    with pytest.raises(build_images.BuildError, match=r"/usr/bin/nvcc \(13.0.88\), which has 75;80") as caught:
        build_images.choose_architectures(setting, nvcc)
    assert "LADDERSEG_FAST_CUDA_ARCHITECTURES=none" in str(caught.value)


def test_build_goes_on_without_nvcc(tmp_path, build_images, kernels, capsys, monkeypatch):
    monkeypatch.setattr(build_images, "find_nvcc", lambda environment: None)
    stale = tmp_path / "package" / "_images" / "manifest.json"
    stale.parent.mkdir(parents=True)
    stale.touch()
    build_images.add_kernels(tmp_path / "package", "c++", {})
    assert not stale.exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert "no nvcc was found" in line and "NVRTC" in line


def test_architectures_without_nvcc_end_the_build(tmp_path, build_images, kernels, monkeypatch):
    monkeypatch.setattr(build_images, "find_nvcc", lambda environment: None)
    environment = {"LADDERSEG_FAST_CUDA_ARCHITECTURES": "80"}
    with pytest.raises(build_images.BuildError, match="no nvcc was found"):
        build_images.add_kernels(tmp_path / "package", "c++", environment)


def test_nvcc_can_be_left_out(tmp_path, build_images, kernels, capsys):
    environment = {
        "CUDACXX": pretended_nvcc(tmp_path / "nvcc"),
        "LADDERSEG_FAST_CUDA_ARCHITECTURES": "none",
    }
    build_images.add_kernels(tmp_path / "package", "c++", environment)
    assert "LADDERSEG_FAST_CUDA_ARCHITECTURES=none" in capsys.readouterr().out
    assert not (tmp_path / "package").exists()


def test_failing_nvcc_ends_the_build(tmp_path, build_images, kernels):
    nvcc = pretended_nvcc(tmp_path / "nvcc", compiling="echo unsupported GNU version; exit 1")
    with pytest.raises(build_images.BuildError, match="unsupported GNU version") as caught:
        build_images.add_kernels(tmp_path / "package", "c++", {"CUDACXX": nvcc})
    assert "LADDERSEG_FAST_CUDA_ARCHITECTURES=none" in str(caught.value)
    assert read_manifest(tmp_path / "package" / "_images") is None


@pytest.mark.parametrize(("version", "message"), [("10.2.89", "is 10.2.89"), ("?", "does not report")])
def test_old_or_unknown_nvcc_ends_the_build(version, message, tmp_path, build_images, kernels):
    nvcc = pretended_nvcc(tmp_path / "nvcc", version)
    with pytest.raises(build_images.BuildError, match=f"{message}.*CUDA 11.2 is the oldest"):
        build_images.add_kernels(tmp_path / "package", "c++", {"CUDACXX": nvcc})


def test_what_is_up_to_date_is_kept(tmp_path, build_images, kernels, capsys):
    log, images = tmp_path / "log", tmp_path / "package" / "_images"
    environment = {"CUDACXX": pretended_nvcc(tmp_path / "nvcc", compiling=f'echo "$@" >> {log}')}
    for _ in range(2):
        build_images.add_kernels(tmp_path / "package", "ccache g++-12 -m64", environment)
    commands = log.read_text().splitlines()
    assert len(commands) == 4, "one per element type, and none in the second build"
    assert all("-ccbin g++-12 " in command for command in commands)
    assert all("arch=compute_80,code=sm_80 " in command for command in commands)
    assert all("arch=compute_90,code=[sm_90,compute_90] " in command for command in commands)
    first, second = capsys.readouterr().out.splitlines()
    assert "4 images for sm_80 sm_90, PTX of compute_90" in first and "13.0.88" in first
    assert "up to date" in second
    manifest = read_manifest(images)
    assert (manifest.nvcc, manifest.architectures, manifest.ptx) == ("13.0.88", (80, 90), (90,))
    assert manifest.sources == kernel_sources.digest(kernels)

    (kernels / "toy.cuh").write_text("// edited")
    build_images.add_kernels(tmp_path / "package", "g++", environment)
    assert len(log.read_text().splitlines()) == 8


def test_sources_are_copied(tmp_path, build_images, kernels):
    (tmp_path / "_kernels").mkdir()
    (tmp_path / "_kernels" / "removed.cu").touch()
    build_images.copy_sources(tmp_path)
    assert sorted(path.name for path in (tmp_path / "_kernels").iterdir()) == ["toy.cu", "toy.cuh"]


def test_nvcc_compiles_the_toy(tmp_path, build_images, kernels):
    path = build_images.find_nvcc()
    if path is None:
        pytest.skip("there is no nvcc")
    nvcc = build_images.examine(path)
    newest = nvcc.architectures[-1]
    build_images.build(kernels, tmp_path / "_images", nvcc, [newest], [newest], "g++")
    for name in kernel_sources.image_names(kernels):
        # The magic number of a fatbin, little-endian.
        assert (tmp_path / "_images" / f"{name}.fatbin").read_bytes()[:4] == bytes.fromhex("50ed55ba")
    assert json.loads((tmp_path / "_images" / "manifest.json").read_text())["architectures"] == [newest]


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(1, 8))])
def test_nvcc_compiles_every_operator(first, tmp_path, build_images, monkeypatch):
    """Every eighth from the `first`, each for one type of elements, in turn, and the newest usual architecture."""
    path = build_images.find_nvcc()
    if path is None:
        pytest.skip("there is no nvcc")
    nvcc, sources = build_images.examine(path), build_images.load_kernel_sources()
    names = [
        f"{operator}_{sources.ELEMENTS[number % len(sources.ELEMENTS)]}"
        for number, operator in enumerate(sources.operators(build_images.KERNELS))
        if number % 8 == first
    ]
    monkeypatch.setattr(sources, "image_names", lambda directory: names)
    monkeypatch.setattr(build_images, "load_kernel_sources", lambda: sources)
    architectures, _ = build_images.choose_architectures("", nvcc)
    build_images.build(build_images.KERNELS, tmp_path / "_images", nvcc, architectures[-1:], [], "g++")
    assert sorted(image.stem for image in (tmp_path / "_images").glob("*.fatbin")) == sorted(names)


#: Of a kernel that keeps an array in a stack, and of one that does not.
REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one_float32' for 'sm_80'
ptxas info    : Function properties for one_float32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compiling entry function 'two_float32' for 'sm_90'
ptxas info    : Function properties for two_float32
    128 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers, 128 bytes cumulative stack size
"""
PROBLEM = "two_float32 on sm_90: 128 bytes of stack, 8 bytes of spill stores and 4 of spill loads"


def test_reports_of_local_memory_are_read(build_images):
    assert build_images.local_memory(REPORT) == [PROBLEM]
    assert build_images.local_memory(REPORT.split("ptxas info    : Compiling entry function 'two")[0]) == []
    called = REPORT.replace(
        "Used 8",
        "Function properties for helper\n 16 bytes stack frame, 0 bytes spill stores, "
        "0 bytes spill loads\nptxas info    : Used 8",
    )
    assert len(build_images.local_memory(called)) == 2


@pytest.mark.parametrize("version", ["13.0.88", "12.4.131"])
def test_local_memory_ends_the_build_with_newer_compilers(version, tmp_path, build_images, kernels, capsys):
    (tmp_path / "report").write_text(REPORT)
    nvcc = pretended_nvcc(tmp_path / "nvcc", version, compiling=f"cat {tmp_path / 'report'} >&2")
    if version.startswith("13"):
        with pytest.raises(build_images.BuildError) as caught:
            build_images.add_kernels(tmp_path / "package", "c++", {"CUDACXX": nvcc})
        assert PROBLEM in str(caught.value) and "toy_" in str(caught.value)
        assert read_manifest(tmp_path / "package" / "_images") is None
    else:
        build_images.add_kernels(tmp_path / "package", "c++", {"CUDACXX": nvcc})
        assert PROBLEM in capsys.readouterr().out


@pytest.mark.slow
def test_no_kernel_has_local_memory_with_nvcc(tmp_path, build_images):
    """Wherever an installation compiles for; the build ends if one has."""
    path = build_images.find_nvcc()
    if path is None:
        pytest.skip("there is no nvcc")
    nvcc = build_images.examine(path)
    if int(nvcc.version.split(".")[0]) < build_images.CHECKED_SINCE:
        pytest.skip(f"nvcc {nvcc.version}")
    usual = build_images.choose_architectures("", nvcc)
    build_images.build(build_images.KERNELS, tmp_path / "_images", nvcc, *usual, "g++")


def test_the_stack_of_a_real_kernel_is_seen(tmp_path, build_images, kernels):
    path = build_images.find_nvcc()
    if path is None:
        pytest.skip("there is no nvcc")
    nvcc = build_images.examine(path)
    if int(nvcc.version.split(".")[0]) < build_images.CHECKED_SINCE:
        pytest.skip(f"nvcc {nvcc.version}")
    (kernels / "toy.cu").write_text("""
#include "toy.cuh"
extern "C" __global__ void __launch_bounds__(128) NAME(toy)(Element* x, int n) {
  Element values[32];
  for (int i = 0; i < 32; ++i) values[i] = x[i];
  for (int i = 0; i < n; ++i) values[i % 32] += x[i];
  x[0] = values[n % 32];
}
""")
    with pytest.raises(build_images.BuildError, match=r"toy_\w+ on sm_\d+: \d+ bytes of stack"):
        build_images.build(kernels, tmp_path / "_images", nvcc, [nvcc.architectures[-1]], [], "g++")
