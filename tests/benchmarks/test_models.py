"""benchmarks/models.py, run on one small configuration."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest
from support.processes import run_script

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "models.py"
OPTIONS = "--models densenet121_32x --size 64x96 --batch 4 --warmup 1 --steps 1".split()


def check(output: str) -> list[str]:
    """Checks the model's row, and returns what has been measured."""
    line = next(line for line in output.splitlines() if line.startswith("| densenet121_32x"))
    name, title, parameters, arithmetic, *measured = (cell.strip() for cell in line.strip("|").split("|"))
    assert (name, title, parameters) == ("densenet121_32x", "DenseNet-121 32x", "8.07 M")
    # The convolutions of DenseNet-121 take 5.7 GFLOP at 224x224, in proportion to the pixels.
    assert 0.5 < float(arithmetic.removesuffix(" GFLOP")) < 1.5
    return measured


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the steps of test_memory.py, as it were."""

    def run_step(script: str, arguments: list[str], preload: str | None) -> dict[str, object]:
        assert script == "train_step.py" and preload is None
        options = dict(zip(arguments[::2], arguments[1::2]))
        assert (options["--model"], options["--size"], options["--batch"]) == ("densenet121_32x", "64x96", "4")
        lean = options["--method"] == "lean"
        machine = {"device": "some CPU", "threads": 1, "torch": "2.13.0"}
        memory = {"peak_bytes": 1.5e9 if lean else 9e9, "reserved_bytes": None, "how_measured": "somehow"}
        return memory | {"seconds": 2.5 if lean else 3.0, "machine": machine, "loss": 1.0}

    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(importlib.import_module("in_turn"), "run_step", run_step)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *OPTIONS])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == 0
    assert check(capsys.readouterr().out) == ["9.00 GB", "3.00 s", "1.50 GB", "2.50 s"]


@pytest.mark.slow
def test_steps() -> None:
    finished = run_script(SCRIPT, *OPTIONS)
    assert finished.returncode == 0, finished.stderr
    measured = check(finished.stdout)
    assert len(measured) == 4 and all(cell.endswith(("GB", "s")) for cell in measured)
