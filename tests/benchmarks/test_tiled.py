"""benchmarks/tiled.py and its step, with a tiny model."""

import importlib
import json
from pathlib import Path

import pytest
from support.ladder_models import TINY
from support.tiny_training import register_tiny_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("kind", ["npy", "png", "tiff"])
def test_one_step(monkeypatch, capsys, kind):
    register_tiny_model()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    step = importlib.import_module("tiled_step")
    options = f"--model {TINY} --kind {kind} --size 384x300 --tile 128 --overlap 64 --rows 2 --threads 1"
    monkeypatch.setattr("sys.argv", ["tiled_step.py", *options.split()])
    step.main()
    measured = json.loads(capsys.readouterr().out)
    assert (measured["tiles"], measured["all_tiles"]) == (8, 20)
    assert 0 < measured["megapixels"] < 384 * 300 / 1e6
    assert measured["process"] > measured["peak"] >= 0


def test_table(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tiled, seen = importlib.import_module("tiled"), []

    def run_step(script, arguments):
        seen.append(arguments)
        if "64x64" in arguments:
            raise tiled.StepFailed("out of memory")
        machine = {"device": "a CPU", "threads": 1, "torch": "2"}
        peaks = {"peak": 2**20, "process": 2**22}
        return peaks | {"tiles": 1, "all_tiles": 4, "seconds_per_megapixel": 0.5, "machine": machine}

    monkeypatch.setattr(tiled, "run_step", run_step)
    monkeypatch.setattr("sys.argv", ["tiled.py", "--sizes", "128x256,64x64", "--rows", "1"])
    assert tiled.main() == 1
    output = capsys.readouterr().out
    assert "| 128x256 | 1 of 4 | 1 MiB | 4 MiB | 0.50 |" in output
    assert "| 64x64 | out of memory | | | |" in output
    assert seen[0][:2] == ["--size", "128x256"] and seen[0][-2:] != ["--threads", "None"]
