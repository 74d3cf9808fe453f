"""benchmarks/models.py, run on one small configuration."""

from pathlib import Path

from support.processes import run_script

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "models.py"


def test_table() -> None:
    arguments = ["--models", "densenet121_32x", "--size", "64x96", "--batch", "4", "--warmup", "1", "--steps", "1"]
    finished = run_script(SCRIPT, *arguments)
    assert finished.returncode == 0, finished.stderr
    line = next(line for line in finished.stdout.splitlines() if line.startswith("| densenet121_32x"))
    name, title, parameters, arithmetic, *measured = (cell.strip() for cell in line.strip("|").split("|"))
    assert (name, title, parameters) == ("densenet121_32x", "DenseNet-121 32x", "8.07 M")
    # The convolutions of DenseNet-121 take 5.7 GFLOP at 224x224, in proportion to the pixels.
    assert 0.5 < float(arithmetic.removesuffix(" GFLOP")) < 1.5
    assert len(measured) == 4 and all(cell.endswith(("GB", "s")) for cell in measured)
