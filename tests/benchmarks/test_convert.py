"""benchmarks/convert.py as a whole, at a size that takes seconds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support import torchvision_networks
from support.benchmark_scripts import run_benchmark

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEP_OPTIONS = "--batch 2 --threads 1 --warmup 1 --steps 1 --repeats 1 --size".split()


def run(folder: Path, size: str, *options: str) -> subprocess.CompletedProcess[str]:
    options = (*STEP_OPTIONS, size, *options, "--tcmalloc", "")
    return run_benchmark(folder / "convert.py", *options, first=torchvision_networks.torchvision)


def rows(output: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in output.splitlines() if line[:2] == "| "]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


@pytest.fixture
def benchmark_copy(tmp_path: Path) -> Path:
    """The benchmarks, without recorded results, in a folder where a test may spoil them."""
    torchvision_networks.torchvision()
    folder = shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.json"))
    return Path(folder)


def test_methods_are_compared(benchmark_copy: Path) -> None:
    # Large enough that maps, and not what else a process takes, decide about its peak.
    finished = run(benchmark_copy, "160x160", "--networks", "torchvision-densenet121", "--record")
    assert finished.returncode == 0, finished.stderr
    table = rows(finished.stdout)
    assert [*table] == ["method", "plain", "checkpoint", "converted"]
    assert table["plain"][1] == "1.00"
    assert float(table["converted"][1]) < 0.8
    assert "checkpoint: memory_efficient=True." in finished.stdout
    assert "gradients agree to 1e-10 and 1e-08" in finished.stdout
    (path,) = (benchmark_copy / "results").glob("*.json")
    recorded = json.loads(path.read_text())["measurements"]
    assert [(each["kind"], each["options"]["method"]) for each in recorded] == [
        ("converted step", method) for method in ("plain", "checkpoint", "converted")
    ]
    assert recorded[0]["options"]["network"] == "torchvision-densenet121"
    assert recorded[0]["result"]["peak_resident_bytes"] > 0


def test_wrong_gradients_and_networks_that_are_left_alone_are_not_timed(benchmark_copy: Path) -> None:
    path = benchmark_copy / "other_networks.py"
    source = """

def _unknown():
    return nn.Sequential(nn.Conv2d(3, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _slanted(model):
    model[0].bias.register_hook(lambda gradient: 1.001 * gradient)


NETWORKS["torchvision-densenet121"] = OtherNetwork("unknown", _unknown, _slanted, "a slant", dense=False)
"""
    path.write_text(path.read_text() + source)
    finished = run(benchmark_copy, "64x64", "--networks", "torchvision-densenet121")
    assert finished.returncode == 1
    table = rows(finished.stdout)
    assert table["checkpoint"][0].startswith("failed: wrong result: float64 gradient differs by")
    assert table["converted"][0] == "failed: NothingConverted: no part of it is known"
    assert table["plain"][1] == "1.00"
