"""NVRTC: where it is looked for, what it compiles for which device, and what is said when it cannot."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from support.toy_kernels import write_toy_kernels

from ladderseg_fast.cuda import nvrtc
from ladderseg_fast.cuda.nvrtc_search import candidates, preferred_majors


@pytest.fixture
def compiler() -> nvrtc.Nvrtc:
    try:
        return nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    return write_toy_kernels(tmp_path / "kernels")


def a_known_architecture(compiler: nvrtc.Nvrtc) -> str:
    return "sm_80" if 80 in compiler.architectures else f"sm_{compiler.architectures[-1]}"


def made(folder: Path, *names: str) -> list[str]:
    """Creates empty files; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_torchs_major_version_is_preferred():
    assert preferred_majors(None) == [13, 12, 11]
    assert preferred_majors("12.8") == [12, 13, 11]
    assert preferred_majors("13.0") == [13, 12, 11]
    assert preferred_majors("99.1") == [13, 12, 11]


def test_candidates_come_in_order(tmp_path):
    torch_directory = tmp_path / "torch"
    (bundled,) = made(torch_directory / "lib", "libnvrtc-b51b459d.so.12")
    made(torch_directory / "lib", "libnvrtc-builtins-12345678.so.12.1", "libnvrtc.alt.so.12")
    packages = tmp_path / "packages"
    (thirteen,) = made(packages / "nvidia" / "cu13" / "lib", "libnvrtc.so.13")
    (twelve,) = made(packages / "nvidia" / "cuda_nvrtc" / "lib", "libnvrtc.so.12")
    made(packages / "nvidia" / "cuda_nvrtc" / "lib", "libnvrtc-builtins.so.12.9", "libnvrtc.alt.so.12")
    (home,) = made(tmp_path / "cuda" / "lib64", "libnvrtc.so.12.4.127")
    environment = {"CUDA_HOME": str(tmp_path / "cuda")}
    loader = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so.11.2"]

    found = list(candidates("12.8", torch_directory, [packages], environment))
    assert [path for path in found if path.startswith(str(tmp_path))] == [bundled, twelve, thirteen, home]
    assert found[-3:] == loader

    # Without CUDA, torch brings no NVRTC, and the newest is as good as any.
    found = list(candidates(None, torch_directory, [packages], environment))
    assert [path for path in found if path.startswith(str(tmp_path))] == [thirteen, twelve, home]


def test_missing_nvrtc_is_reported_with_what_was_tried(tmp_path, monkeypatch):
    not_a_library = tmp_path / "libnvrtc.so.12"
    not_a_library.write_text("not an ELF file")
    monkeypatch.setattr(nvrtc, "candidates", lambda: iter(["libnvrtc.so.999", str(not_a_library)]))
    with pytest.raises(nvrtc.NvrtcNotFound) as caught:
        nvrtc.open_nvrtc.__wrapped__()
    assert "libnvrtc.so.999" in str(caught.value) and str(not_a_library) in str(caught.value)


def test_opened_library_is_named(compiler):
    assert compiler.version >= (11, 2)
    assert compiler.name == f"NVRTC {compiler.version[0]}.{compiler.version[1]}"
    assert Path(compiler.path).is_file()
    assert list(compiler.architectures) == sorted(compiler.architectures)


def test_a_call_that_fails_is_named(compiler):
    with pytest.raises(RuntimeError, match="NVRTC failed on toy: NVRTC_ERROR_INVALID_INPUT"):
        nvrtc._check(3, "toy")


def test_a_library_of_the_loaders_path_is_found():
    assert Path(nvrtc._mapped_path("libc.so")).is_file()
    assert nvrtc._mapped_path("libnowhere.so") == "libnowhere.so"


def test_machine_code_and_ptx_for_every_element(compiler, kernels):
    architecture = a_known_architecture(compiler)
    for element in ("float32", "float64", "float16", "bfloat16"):
        compiled = nvrtc.compile(kernels / "toy.cu", kernels, element, architecture)
        assert compiled.image.startswith(b"\x7fELF")
        assert (compiled.target, compiled.log) == (architecture, "")
        assert f".entry toy_{element}(" in compiled.ptx and f"toy_{element}".encode() in compiled.image


def test_ptx_has_line_information(compiler, kernels):
    architecture = a_known_architecture(compiler)
    compiled = nvrtc.compile(kernels / "toy.cu", kernels, "float32", architecture, kind="ptx")
    assert compiled.target == architecture.replace("sm", "compute")
    assert compiled.image == compiled.ptx.encode() + b"\0"
    assert ".loc" in compiled.ptx and "toy.cu" in compiled.ptx


def test_compile_error_says_what_failed(compiler, kernels):
    architecture = a_known_architecture(compiler)
    (kernels / "toy.cu").write_text("#error broken on purpose\n")
    with pytest.raises(RuntimeError, match=f"cannot compile toy of float16 for {architecture}") as caught:
        nvrtc.compile(kernels / "toy.cu", kernels, "float16", architecture)
    assert "broken on purpose" in str(caught.value) and "toy.cu" in str(caught.value)


def test_a_newer_device_gets_ptx_of_the_newest_known(compiler, kernels):
    newest = f"compute_{compiler.architectures[-1]}"
    compiled = nvrtc.compile(kernels / "toy.cu", kernels, "float32", "sm_990")
    assert compiled.target == newest
    assert f".target {newest.replace('compute', 'sm')}" in compiled.ptx


def test_targets_by_device():
    thirteen = nvrtc.Nvrtc(None, "libnvrtc.so.13", (13, 0), (75, 80, 86, 120))
    expected = {"sm_75": "sm_75", "sm_86": "sm_86", "sm_89": "compute_86", "sm_130": "compute_120"}
    assert {architecture: nvrtc.target_for(architecture, thirteen) for architecture in expected} == expected


def test_an_older_device_is_told_what_it_needs():
    thirteen = nvrtc.Nvrtc(None, "libnvrtc.so.13", (13, 0), (75, 80))
    with pytest.raises(RuntimeError, match=r"no code for sm_61: CUDA 13 ends at sm_75.*\.\[cuda12\]"):
        nvrtc.target_for("sm_61", thirteen)
    twelve = dataclasses.replace(thirteen, version=(12, 9), architectures=(50, 61))
    with pytest.raises(RuntimeError, match="CUDA 12 ends at sm_50$"):
        nvrtc.target_for("sm_35", twelve)


@pytest.mark.parametrize("library", [path for path in itertools.islice(candidates(), 20) if "/" in path])
def test_every_library_here_finds_its_builtins(library, kernels, monkeypatch):
    opened = nvrtc._open(library)
    monkeypatch.setattr(nvrtc, "open_nvrtc", lambda: opened)
    assert nvrtc.compile(kernels / "toy.cu", kernels, "float32", f"sm_{opened.architectures[0]}").image
