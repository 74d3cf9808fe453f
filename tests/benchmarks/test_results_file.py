"""benchmarks/results_file.py and the files in benchmarks/results; short names of kernels."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted((BENCHMARKS / "results").glob("*.json"))


@pytest.fixture
def results_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("results_file")


@pytest.fixture
def kernel_names(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("kernel_names")


def test_what_is_saved_is_loaded(results_file: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    results = results_file.Results({"name": "NVIDIA T4"}, {"revision": "1"}, "2030-12-31", ["One.", "Two."])
    for _ in range(2):
        results.measurements.append(results_file.Measurement("a", "step", {"dtype": "float16"}, {"median_ms": 1.5}))
        results.measurements.append(results_file.Measurement("b", "step", {}, error="out of memory", wall_s=2.0))
        results.save(path)
    assert results_file.Results.load(path) == results
    assert [each.name for each in results.of_kind("step")] == ["a", "a"]
    assert list(results.of_kind("step", dtype="float32")) == []
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="expected format 1"):
        results_file.Results.load(path)


def test_names_of_files(results_file: ModuleType) -> None:
    assert results_file.file_name("NVIDIA H200", "2030-12-31") == "h200_2030-12-31.json"
    assert results_file.file_name("NVIDIA GeForce GTX 1070", "x") == "geforce_gtx_1070_x.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_can_be_read(results_file: ModuleType, path: Path) -> None:
    results = results_file.Results.load(path)
    assert path.name.startswith(results_file.file_name(results.device["name"], "").removesuffix(".json"))
    assert results.software["revision"]
    assert results.date is None or results.date in path.name
    assert all((each.result is None) != (each.error is None) for each in results.measurements)
    for each in results.of_kind("kernels"):
        total = sum(milliseconds for _, _, milliseconds in each.result["kernels"])
        assert total == pytest.approx(each.result["total_ms"], rel=2e-2), each.name
        assert all(len(name) < 100 for name, _, _ in each.result["kernels"])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("bn_relu_conv3x3_weight_tensor_narrow_float16", "bn_relu_conv3x3_weight_tensor_narrow_float16"),
        (
            "void at::native::(anonymous namespace)::upsample_bilinear2d_backward_out_frame<float, float>(long, int)",
            "upsample_bilinear2d_backward_out_frame",
        ),
        (
            "void at::native::elementwise_kernel<128, 2, at::native::gpu_kernel_impl_nocast<at::native::"
            "direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}> >(int)",
            "elementwise: direct_copy",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<8, at::native::BinaryFunctor<c10::Half, c10::Half, "
            "c10::Half, at::native::(anonymous namespace)::threshold_kernel_impl<c10::Half>(at::TensorIteratorBase&)>",
            "elementwise: threshold",
        ),
        (
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::sum_functor<float> > >()",
            "reduce: sum",
        ),
        (
            "sm90_xmma_dgrad_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x32_warpgroupsize1x1x1_g1",
            "sm90_xmma_dgrad_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc",
        ),
        (
            "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64_32x6_nt_align4>(cutlass_80_tensorop::Params)",
            "cutlass_80_tensorop_s1688gemm",
        ),
        ("nvjet_sm90_hsh_128x256_64x4_2x1_v_bz_coopA_TNN", "nvjet_sm90_hsh"),
        ("Memset (Device)", "Memset"),
    ],
)
def test_short_names_of_kernels(kernel_names: ModuleType, name: str, short: str) -> None:
    assert kernel_names.short_name(name) == short


def test_kernels_of_one_name_are_added_up(kernel_names: ModuleType) -> None:
    times = [("nvjet_sm90_hsh_64x64_1", 1.0, 0.5), ("bn_sums_float32", 4.0, 0.9), ("nvjet_sm90_hsh_96x64_2", 2.0, 1.0)]
    assert kernel_names.aggregated(times) == [("nvjet_sm90_hsh", 3.0, 1.5), ("bn_sums_float32", 4.0, 0.9)]


def test_a_measurement_is_a_line(results_file: ModuleType, tmp_path: Path) -> None:
    results = results_file.Results({}, {}, None, [], [results_file.Measurement("a", "step", {}, {})] * 3)
    results.save(tmp_path / "a.json")
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert sum(json.loads(line.rstrip(","))["name"] == "a" for line in lines if line.startswith('{"name"')) == 3
