"""benchmarks/memory.py as a whole, at a size that takes seconds."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.benchmark_scripts import run_benchmark

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE_OPTIONS = "--size 128x128 --batch 2 --threads 2 --repeats 1 --warmup 1 --steps 1".split()


def run(*options: str, folder: Path = BENCHMARKS) -> subprocess.CompletedProcess[str]:
    return run_benchmark(folder / "memory.py", *SIZE_OPTIONS, *options)


@pytest.fixture
def benchmark_copy(tmp_path: Path) -> Path:
    """The benchmarks in a folder where a test may spoil them."""
    return Path(shutil.copytree(BENCHMARKS, tmp_path / "benchmarks"))


def add_method(folder: Path, name: str, source: str) -> None:
    """Register the function `name(model, loss)` in the copy as the method `name`, after all others."""
    path = folder / "alternatives.py"
    registration = f"ALTERNATIVES['{name}'] = {name}\nMETHODS = (*METHODS, '{name}')\n"
    path.write_text(f"{path.read_text()}\n\n{source}\n\n{registration}")


@pytest.mark.real_use
def test_plain_and_lean_are_compared(tmp_path: Path) -> None:
    report, chart = tmp_path / "report.json", tmp_path / "chart.png"
    finished = run("--methods", "plain,lean", "--json", str(report), "--plot", str(chart))
    assert finished.returncode == 0, finished.stderr

    methods = json.loads(report.read_text())["methods"]
    assert list(methods) == ["plain", "lean"]
    for result in methods.values():
        # The parameters' gradients alone, 9 million floats, take 36 MB.
        assert 36e6 < result["peak_bytes"] < 2e9
        assert result["seconds"] > 0
        assert len(result["runs"]) == 1
    assert methods["lean"]["runs"][0]["errors"]["float64"]["gradient"] < 1e-8

    with Image.open(chart) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1800
        assert len(image.getcolors(maxcolors=1 << 24)) > 3

    begun, first, last = finished.stderr.splitlines()
    assert begun == "1 processes of 2 steps for each of 2 methods"
    assert re.fullmatch(r"1/1  plain: [\d.]+ GB, [\d.]+ s per step  \(about \d:\d\d left\)", first)
    assert re.fullmatch(r"1/1  lean: [\d.]+ GB, [\d.]+ s per step", last)
    assert "gradients agree to 1e-10 and 1e-08" in finished.stdout
    assert "looked through for gross errors only" in finished.stdout

    *_, closing = finished.stdout.rstrip().splitlines()
    assert closing.startswith("lean trains LDN-121 at 2 x 128x128 in ")
    ratio = methods["lean"]["seconds"] / methods["plain"]["seconds"]
    assert closing.endswith(f"at {ratio:.2f} of the time of the fastest (plain).")


@pytest.mark.slow
def test_checkpointing_computes_what_plain_does() -> None:
    networks = ("plain", "checkpoint-bottleneck", "checkpoint-layer", "checkpoint-everything")
    methods = [name + loss for name in networks for loss in ("", "-lean-loss")]
    finished = run("--methods", ",".join(methods))
    assert finished.returncode == 0, finished.stderr
    assert "failed" not in finished.stdout


@pytest.mark.slow
def test_slightly_wrong_gradients_are_rejected(benchmark_copy: Path, tmp_path: Path) -> None:
    source = """
def slanted(model, loss):
    model.up2.norm.bias.register_hook(lambda gradient: 1.001 * gradient)
"""
    add_method(benchmark_copy, "slanted", source)
    report = tmp_path / "report.json"
    finished = run("--methods", "plain,slanted", "--json", str(report), folder=benchmark_copy)

    assert finished.returncode == 1
    assert "failed: wrong result: float64 gradient differs by" in finished.stdout
    assert "slanted trains" not in finished.stdout
    result = json.loads(report.read_text())["methods"]["slanted"]
    assert result["seconds"] is None
    assert result["peak_bytes"] is None


@pytest.mark.slow
def test_a_method_that_fails_is_reported_and_the_others_go_on(benchmark_copy: Path, tmp_path: Path) -> None:
    source = """
def greedy(model, loss):
    torch.empty(1 << 60)
"""
    add_method(benchmark_copy, "greedy", source)
    chart = tmp_path / "chart.png"
    finished = run("--methods", "greedy,plain", "--plot", str(chart), folder=benchmark_copy)

    assert finished.returncode == 1
    rows = {line.split()[1]: line for line in finished.stdout.splitlines() if line.startswith("| ")}
    assert rows["greedy"].endswith("failed: out of memory |")
    assert " GB |" in rows["plain"]
    assert chart.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "plain,lena"), "got lena"),
        (("--size", "256"), "expected HxW, both at least 64"),
        (("--size", "32x256"), "expected HxW, both at least 64"),
        (("--repeats", "0"), "expected a whole number of at least 1"),
        (("--model", "densenet12"), "got 'densenet12'"),
        (("--dtype", "float16"), "--dtype float16 needs --device cuda"),
    ],
)
def test_bad_options_are_named(
    options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["memory.py", *SIZE_OPTIONS, *options])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(BENCHMARKS / "memory.py"), run_name="__main__")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
