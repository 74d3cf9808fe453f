"""Where an image comes from: the package, the cache, or NVRTC; and what is said when it can come from nowhere."""

import dataclasses
import json
from pathlib import Path

import pytest
from support.processes import output_of, outputs_of
from support.toy_kernels import write_toy_kernels

from ladderseg_fast.cuda import image_cache, images, kernel_sources, nvrtc
from ladderseg_fast.cuda.ahead_of_time import Manifest, read_manifest

NVCC_13 = Manifest(nvcc="13.0.88", architectures=(75, 80, 90), ptx=(90,), sources="")


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toy kernels instead of the real ones, a package without images, and an empty cache."""
    directory = write_toy_kernels(tmp_path / "kernels")
    monkeypatch.setattr(images, "sources", lambda: directory)
    monkeypatch.setattr(images, "_IMAGES", tmp_path / "_images")
    monkeypatch.setattr(images, "_origins", {})
    monkeypatch.setattr(image_cache, "_warned", False)
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(tmp_path / "cache"))
    return directory


@pytest.fixture
def compiler() -> nvrtc.Nvrtc:
    try:
        return nvrtc.open_nvrtc()
    except nvrtc.NvrtcNotFound as error:
        pytest.skip(str(error))


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Elements compiled so far; without a compiler, since only their number is of interest."""
    done = []

    def compile(source_path: Path, include_dir: Path, element: str, architecture: str) -> nvrtc.Compiled:
        done.append(element)
        return nvrtc.Compiled(f"image of {element} for {architecture}".encode(), "", architecture, "")

    pretend(monkeypatch, nvrtc.Nvrtc(None, "/somewhere/libnvrtc.so.12", (12, 9), (61, 75, 80, 90)))
    monkeypatch.setattr(nvrtc, "compile", compile)
    return done


def pretend(monkeypatch: pytest.MonkeyPatch, compiler: nvrtc.Nvrtc) -> None:
    monkeypatch.setattr(nvrtc, "open_nvrtc", lambda: compiler)


def remove_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_nvrtc():
        raise nvrtc.NvrtcNotFound("NVRTC was not found: libnvrtc.so.12: no such file")

    monkeypatch.setattr(nvrtc, "open_nvrtc", open_nvrtc)


def ship(manifest: Manifest, kernels: Path) -> None:
    """Puts fatbins into the package."""
    images._IMAGES.mkdir()
    facts = dataclasses.asdict(manifest) | {"sources": kernel_sources.digest(kernels)}
    (images._IMAGES / "manifest.json").write_text(json.dumps(facts))
    for name in kernel_sources.image_names(kernels):
        (images._IMAGES / f"{name}.fatbin").write_bytes(f"fatbin {name}".encode())


def entries() -> list[Path]:
    return sorted(image_cache.directory().iterdir())


# --- which names there are ---


def test_image_names(kernels):
    expected = ["toy_float32", "toy_float64", "toy_float16", "toy_bfloat16"]
    assert kernel_sources.image_names(kernels) == expected
    assert kernel_sources.operator_and_element("bn_relu_float32") == ("bn_relu", "float32")
    with pytest.raises(ValueError, match="bn_relu_int8"):
        kernel_sources.operator_and_element("bn_relu_int8")
    with pytest.raises(ValueError, match="no CUDA kernel image 'absent_float32'"):
        images.image("absent_float32", (8, 0))


# --- ahead of time ---


@pytest.mark.parametrize(
    ("architecture", "driver_version", "obstacle"),
    [
        ((8, 0), None, None),
        ((8, 0), 13000, None),
        ((8, 9), 13000, None),  # machine code of 8.0
        ((7, 0), 13000, "they are for sm_75 sm_80 sm_90, PTX of compute_90"),
        ((6, 1), None, "they are for"),
        ((12, 0), 13000, None),  # PTX of 9.0
        ((12, 0), 14020, None),
        ((8, 0), 12090, "they are of CUDA 13, and the driver is one for CUDA 12.9"),
    ],
)
def test_devices_of_a_manifest(architecture, driver_version, obstacle):
    found = NVCC_13.obstacle(architecture, driver_version)
    assert found is None if obstacle is None else obstacle in found


def test_ptx_needs_a_driver_not_older_than_nvcc():
    manifest = dataclasses.replace(NVCC_13, nvcc="12.8.61")
    assert manifest.obstacle((8, 0), 12020) is None, "machine code runs on every driver of the major version"
    assert "PTX is of CUDA 12.8, and the driver is one for CUDA 12.2" in manifest.obstacle((12, 0), 12020)


def test_shipped_image_is_taken(kernels, monkeypatch):
    remove_nvrtc(monkeypatch)
    ship(NVCC_13, kernels)
    assert images.image("toy_float16", (8, 6), 13000) == b"fatbin toy_float16"
    assert images.describe() == "by nvcc 13.0.88 for sm_75 sm_80 sm_90, PTX of compute_90"


def test_device_without_shipped_image_gets_one_at_first_use(kernels, compilations):
    ship(NVCC_13, kernels)
    assert images.image("toy_float32", (6, 1), 12090) == b"image of float32 for sm_61"
    assert compilations == ["float32"]


def test_shipped_images_of_other_sources_are_not_taken(kernels, monkeypatch):
    remove_nvrtc(monkeypatch)
    ship(NVCC_13, kernels)
    (kernels / "toy.cuh").write_text("// edited")
    with pytest.raises(RuntimeError, match="have changed since it was built"):
        images.image("toy_float16", (8, 6))
    assert images.describe().startswith("none")


def test_no_manifest_is_no_images(tmp_path):
    assert read_manifest(tmp_path) is None


# --- neither ---


def test_error_names_both_ways(monkeypatch):
    remove_nvrtc(monkeypatch)
    with pytest.raises(RuntimeError) as caught:
        images.image("toy_float32", (8, 6), 12040)
    message = str(caught.value)
    assert "toy_float32 for a device of compute capability 8.6" in message
    assert "built without nvcc" in message and "NVRTC was not found" in message
    assert all(way in message for way in (".[cuda12]", ".[cuda13]", "install nvcc"))
    assert images.describe().startswith("none; get them with pip")


def test_compiler_newer_than_the_driver_is_refused(monkeypatch):
    pretend(monkeypatch, nvrtc.Nvrtc(None, "/somewhere/libnvrtc.so.13", (13, 0), (75, 80)))
    with pytest.raises(RuntimeError, match=r"this driver, one for CUDA 12, does not load.*\.\[cuda12\]"):
        images.image("toy_float32", (8, 0), 12080)


def test_missing_sources_are_described(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "sources", lambda: tmp_path / "nowhere")
    assert images.describe() == f"none: there are no sources in {tmp_path / 'nowhere'}"


# --- at first use, and the cache ---


def test_second_request_is_served_from_the_cache(compilations):
    first = images.image("toy_float32", (8, 0))
    assert images.image("toy_float32", (8, 0)) == first
    assert compilations == ["float32"]
    images.image("toy_float32", (9, 0))
    images.image("toy_float64", (8, 0))
    assert compilations == ["float32", "float32", "float64"]
    assert len(entries()) == 3, "one file per image, and no temporary ones"


def test_edited_header_and_other_compiler_are_other_entries(kernels, compilations, monkeypatch):
    images.image("toy_float32", (8, 0))
    (kernels / "toy.cuh").write_text("// edited")
    images.image("toy_float32", (8, 0))
    pretend(monkeypatch, dataclasses.replace(nvrtc.open_nvrtc(), version=(12, 8)))
    images.image("toy_float32", (8, 0))
    assert len(compilations) == 3


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:10], lambda b: b[:-1] + b"?"])
def test_damaged_entry_is_compiled_again(damage, compilations):
    first = images.image("toy_float32", (8, 0))
    (entry,) = entries()
    entry.write_bytes(damage(entry.read_bytes()))
    assert images.image("toy_float32", (8, 0)) == first
    assert len(compilations) == 2
    images.image("toy_float32", (8, 0))
    assert len(compilations) == 2, "the entry has been mended"


def test_unwritable_cache_warns_once(tmp_path, compilations, monkeypatch):
    # A file where the directory should be: it stops root too.
    (tmp_path / "file").touch()
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="LADDERSEG_FAST_CACHE") as caught:
        assert images.image("toy_float32", (8, 0)) == images.image("toy_float32", (8, 0))
    assert (len(caught), len(compilations)) == (1, 2)


def test_full_disk_leaves_no_partial_entry(compilations, monkeypatch):
    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache.os, "replace", replace)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert images.image("toy_float32", (8, 0))
    assert entries() == []


def test_place_of_the_cache(monkeypatch, tmp_path):
    assert image_cache.directory() == tmp_path / "cache"
    monkeypatch.delenv("LADDERSEG_FAST_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert image_cache.directory() == Path("/var/cache/ladderseg_fast")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert image_cache.directory() == Path("/home/someone/.cache/ladderseg_fast")


def test_no_home_directory_is_no_cache(compilations, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LADDERSEG_FAST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(image_cache.Path, "home", home)
    with pytest.warns(RuntimeWarning, match="home directory"):
        assert images.image("toy_float32", (8, 0))


def test_several_processes_at_once(kernels, compiler, tmp_path):
    architecture = (8, 0) if 80 in compiler.architectures else divmod(compiler.architectures[-1], 10)
    code = f"""
from pathlib import Path
from ladderseg_fast.cuda import images
images.sources = lambda: Path({str(kernels)!r})
images._IMAGES = Path("/nowhere")
print(images.image("toy_float32", {architecture}).hex())
"""
    outputs = outputs_of([code] * 3, tmp_path)
    assert bytes.fromhex(outputs[0]) == images.image("toy_float32", architecture)
    assert len(set(outputs)) == 1 and len(entries()) == 1


def test_newer_device_is_visible_in_the_description(compiler):
    newest = compiler.architectures[-1]
    assert b".target sm_" in images.image("toy_float32", (99, 0))
    origin = f"toy_float32 is PTX of compute_{newest} that the driver finishes for sm_990, by {compiler.name}"
    assert origin in images.describe()


def test_description_opens_no_driver(tmp_path):
    code = """
import torch
from ladderseg_fast.cuda import images
images.describe()
print("libcuda.so" in open("/proc/self/maps").read(), torch.cuda.is_initialized())
"""
    assert output_of(code, tmp_path).split() == ["False", "False"]
