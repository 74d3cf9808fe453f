"""benchmarks/inference.py as a whole, at a size that takes seconds."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.benchmark_scripts import run_benchmark

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OPTIONS = "--model ladder_resnet18 --repeats 1 --warmup 1 --steps 1 --threads 1 --tcmalloc".split()


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_benchmark(folder / "inference.py", *OPTIONS, "", *options)


def rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:2] == "| "]


def test_methods_are_timed_and_recorded(tmp_path: Path) -> None:
    # A recorded result of this very day would be added to: there is none.
    folder = Path(shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.json")))
    finished = run(folder, "--steps-of", "2x64x96", "--methods", "plain,lean", "--record", "--tiled", "64x96")
    assert finished.returncode == 0, finished.stderr
    header, plain, lean = rows(finished.stdout)
    assert header[:3] == ["method", "latency", "images/s"]
    assert [plain[0], lean[0]] == ["plain", "lean"] and plain[3] == "1.00"
    for row in (plain, lean):
        milliseconds, rate = int(row[1].removesuffix(" ms")), float(row[2])
        assert abs(2e3 / rate - milliseconds) <= 1.0 + 0.01 * milliseconds
    assert re.search(r"lean, an image of 64x96 in tiles \(1 of 1\): .* s per megapixel, peak .* GB", finished.stdout)
    (path,) = (folder / "results").glob("*.json")
    measurements = json.loads(path.read_text())["measurements"]
    assert [each["kind"] for each in measurements] == ["inference", "inference", "tiled inference"]
    assert measurements[1]["name"] == "inference lean 2 x 64x96"


@pytest.mark.slow
def test_the_exported_model_is_checked_and_timed() -> None:
    pytest.importorskip("onnxruntime", reason="the extra ladderseg_fast[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="the extra ladderseg_fast[onnx] is not installed")
    finished = run(BENCHMARKS, "--steps-of", "1x64x96", "--methods", "plain,onnxruntime,lean-bfloat16")
    assert finished.returncode == 0, finished.stderr
    found = {row[0]: row[1] for row in rows(finished.stdout)}
    assert re.fullmatch(r"\d+ ms", found["plain"]) and re.fullmatch(r"\d+ ms", found["onnxruntime"])
    assert re.match(r"\d+ ms|not available: lean computes no bfloat16", found["lean-bfloat16"])
