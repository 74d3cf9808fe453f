"""benchmarks/tables.py: the documents have the tables that it makes; what a table says of measurements."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("tables", "results_file")})


def results(modules: SimpleNamespace, *measurements: tuple[str, dict, dict], date: str = "2030-12-31") -> object:
    made = [modules.results_file.Measurement("", kind, options, result) for kind, options, result in measurements]
    return modules.results_file.Results({"name": "NVIDIA T4"}, {"revision": "12345678"}, date, [], made)


def step(method: str, milliseconds: float, peak: float | None = None, **options: object) -> tuple[str, dict, dict]:
    where = {"model": "ladder_densenet121", "batch": 2, "size": "64x128", "dtype": "float16"}
    result = {"median_ms": milliseconds} | ({} if peak is None else {"peak_allocated_bytes": peak})
    return "step", where | {"method": method} | options, result


@pytest.mark.parametrize("name", ["README.md", "docs/memory.md", "docs/roofline.md"])
def test_documents_have_the_tables_of_the_results(modules: SimpleNamespace, name: str) -> None:
    text = (ROOT / name).read_text()
    assert name in modules.tables.DOCUMENTS and "<!-- table: " in text
    assert modules.tables.filled(text) == text, "run python benchmarks/tables.py"


def test_only_what_is_between_the_marks_changes(modules: SimpleNamespace) -> None:
    text = (
        "before\n<!-- table: gpu memory -->\nold\n<!-- end -->\nbetween\n<!-- table: gpu steps --><!-- end -->\nafter"
    )
    filled = modules.tables.filled(text.replace("--><!--", "-->\n<!--"))
    assert "old" not in filled and "| step " in filled
    assert [line for line in filled.splitlines() if line in ("before", "between", "after")] == [
        "before",
        "between",
        "after",
    ]
    with pytest.raises(KeyError, match="no such"):
        modules.tables.filled("<!-- table: no such -->\n<!-- end -->")


def test_steps(modules: SimpleNamespace) -> None:
    found = results(
        modules,
        step("lean", 30.0, 1e9),
        step("lean", 20.0, 1e9),
        step("lean", 25.0, 1e9),
        step("lean", 1.0, 1e9, variant="another form"),
        step("lean", 2.0, 9e9, allocator="expandable_segments:True"),
        step("plain", 200.0, 8e9),
        step("plain-lean-loss", 60.0, 7e9),
        step("plain-lean-loss", 50.0, 9e10, cudnn_benchmark=True),
        step("plain", 300.0, dtype="tf32"),
        step("lean", 100.0, 2e9, dtype="tf32"),
    )
    head, *rows = modules.tables.steps(found)
    assert head == ["LDN-121, 2 x 64x128", "float16", "tf32", "float32"]
    assert rows == [
        ["plain", "200 ms, 8.00 GB", "300 ms", ""],
        ["plain-lean-loss", "50.0 ms, 7.00 GB", "", ""],
        ["**lean**", "25.0 ms, 1.00 GB", "100 ms, 2.00 GB", ""],
        ["lean / the fastest other", "0.50", "", ""],
    ]


def test_steps_on_a_cpu(modules: SimpleNamespace) -> None:
    def run(
        kind: str,
        method: str,
        seconds: float,
        gigabytes: float,
        allocator: str = "",
        batch: int = 2,
        model: str = "ladder_densenet121",
    ) -> tuple:
        options = {"method": method, "model": model, "batch": batch, "size": "64x128"}
        options |= {"allocator": allocator} if allocator else {}
        return kind, options, {"median_ms": 1e3 * seconds, "peak_resident_bytes": 1e9 * gigabytes}

    found = results(
        modules,
        run("step", "lean", 1.0, 0.5),
        run("step", "plain", 9.0, 8.0),
        run("step", "plain", 4.0, 9.0, "tcmalloc"),
        run("step", "checkpoint-layer-lean-loss", 5.0, 2.0, "tcmalloc"),
        run("prediction", "lean", 0.25, 0.1, batch=1),
        run("step", "lean", 7.0, 7.0, model="ladder_resnet50"),
        run("inference", "lean-bfloat16", 0.1, 0.1, batch=1),
        run("inference", "lean", 0.2, 0.2, batch=1),
        run("inference", "onnxruntime", 0.5, 0.4, batch=1),
    )
    assert modules.tables.cpu_predictions(found) == [
        ["", "1 x 64x128"],
        ["onnxruntime", "0.40 GB, 0.50 s"],
        ["**lean**", "0.20 GB, 0.20 s"],
        ["**lean-bfloat16**", "0.10 GB, 0.10 s"],
        ["lean / the best other", "0.50, 0.40"],
    ]
    assert modules.tables.cpu_steps(found) == [
        ["", "a step of 2 x 64x128", "a prediction of 1 x 64x128"],
        ["plain", "8.00 GB, 9.00 s", ""],
        ["plain, tcmalloc", "9.00 GB, 4.00 s", ""],
        ["checkpoint-layer-lean-loss, tcmalloc", "2.00 GB, 5.00 s", ""],
        ["**lean**", "0.50 GB, 1.00 s", "0.10 GB, 0.25 s"],
        ["lean / the best other", "0.25, 0.25", ""],
    ]


def test_converted_networks(modules: SimpleNamespace) -> None:
    def run(method: str, seconds: float, gigabytes: float, allocator: str = "") -> tuple:
        options = {"method": method, "network": "a net", "batch": 2, "size": "64x128", "allocator": allocator}
        return "converted step", options, {"median_ms": 1e3 * seconds, "peak_resident_bytes": 1e9 * gigabytes}

    found = results(
        modules,
        run("plain", 4.0, 8.0),
        run("plain", 2.0, 9.0, "tcmalloc"),
        run("checkpoint", 5.0, 3.0),
        run("converted", 1.0, 1.0),
    )
    assert modules.tables.converted(found) == [
        ["a step of", "plain", "checkpoint", "converted", "converted / plain"],
        ["a net, 2 x 64x128", "9.00 GB, 2.00 s", "3.00 GB, 5.00 s", "1.00 GB, 1.00 s", "0.11, 0.50"],
    ]
    assert len(modules.tables.converted(results(modules))) == 1


def test_tables_of_gpus_have_no_cpu(modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.tables, "FOLDER", tmp_path)
    monkeypatch.setattr(modules.tables, "ROOT", tmp_path)
    on_cpu = results(modules, step("lean", 30.0, 1e9))
    on_cpu.device = {"name": "AMD EPYC", "threads": 2}
    on_cpu.measurements[0].result["peak_resident_bytes"] = 1e9
    on_cpu.software["torch"] = "2.13.0"
    on_cpu.save(tmp_path / "amd_epyc_2030-12-31.json")
    assert modules.tables.table("gpu steps").strip() == ""
    assert "AMD EPYC, 2 threads, revision 1234567, torch 2.13.0 (`amd_epyc" in modules.tables.table("cpu steps")


def test_kernels_of_an_operator_are_one_row(modules: SimpleNamespace) -> None:
    where = {"method": "lean", "dtype": "float16"}
    kernels = [
        ["bn_relu_conv3x3_weight_tensor_narrow_float16", 58.0, 4.0],
        ["bn_relu_conv3x3_weight_tensor_float16", 9.0, 2.0],
        ["cross_entropy_19_float32", 2.0, 1.0],
        ["elementwise: direct_copy", 9.0, 0.5],
        ["Memset", 9.0, 0.25],
        ["sum_parts_float16", 9.0, 0.01],
    ]
    plain = ("kernels", where | {"method": "plain-lean-loss"}, {"total_ms": 5.0, "kernels": []})
    found = results(modules, ("kernels", where, {"total_ms": 8.0, "kernels": kernels}), plain)
    assert [row[:2] for row in modules.tables.kernels(found)] == [
        ["lean, ms a step", "float16"],
        ["bn_relu_conv3x3_weight", "6.0"],
        ["cross_entropy_19", "1.0"],
        ["torch's", "0.8"],
        ["1 others", "0.0"],
        ["all", "8.0"],
        ["all of plain-lean-loss", "5.0"],
    ]
    assert len(modules.tables.kernels(results(modules))) == 1


def test_memory(modules: SimpleNamespace) -> None:
    where = {"model": "ladder_densenet121", "batch": 2, "size": "64x128", "dtype": "float32", "optimizer": "adam"}
    known = {"predicted_bytes": 98_000_000, "measured_bytes": 100_000_000}
    head, row = modules.tables.memory(
        results(modules, ("memory", where, known), ("memory", where, {"predicted_ms": 1}))
    )
    assert head == ["step", "predicted", "measured", "error"]
    assert row == ["LDN-121, 2 x 64x128, float32, Adam", "98.0 MB", "100.0 MB", "-2.0 %"]
    more = known | {"predicted_reserved_bytes": 220_000_000, "measured_reserved_bytes": 200_000_000}
    head, row, other = modules.tables.memory(results(modules, ("memory", where, more), ("memory", where, known)))
    assert head[4:] == ["reserved, predicted", "reserved, measured", "reserved, error"]
    assert (row[4:], other[4:]) == (["220.0 MB", "200.0 MB", "+10.0 %"], ["", "", ""])


def test_the_latest_file_of_a_device_that_has_the_table(
    modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.tables, "FOLDER", tmp_path)
    for name, date in (
        ("t4_1234567", None),
        ("t4_2030-12-30_10", "2030-12-30"),
        ("t4_2030-12-30_9", "2030-12-30"),
        ("h200_2030-12-31", "2030-12-31"),
    ):
        measured = [] if name.startswith("h200") else [step("lean", 30.0, 1e9)]
        made = results(modules, *measured, date=date)
        made.device = {"name": name.partition("_")[0], "capability": "9.0"}
        made.software["torch"] = "2.13.0"
        made.save(tmp_path / f"{name}.json")
    monkeypatch.setattr(modules.tables, "ROOT", tmp_path)
    stems = [path.stem for path, _ in modules.tables.all_results()]
    assert stems == ["h200_2030-12-31", "t4_2030-12-30_10", "t4_2030-12-30_9", "t4_1234567"]
    assert re.findall(r"`(\w[\w-]*)\.json`", modules.tables.table("gpu steps")) == ["t4_2030-12-30_10"]
