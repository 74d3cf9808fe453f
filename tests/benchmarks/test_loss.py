"""benchmarks/loss.py as a whole, at a size that takes seconds."""

from pathlib import Path

import pytest
from support.benchmark_scripts import run_benchmark

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loss.py"


@pytest.mark.parametrize("losses", [("ohem",), pytest.param(("ohem", "cross_entropy_dice"), marks=pytest.mark.slow)])
def test_losses_are_measured_and_checked(losses: tuple[str, ...]) -> None:
    size = f"--cases cityscapes-4 --losses {','.join(losses)} --shrink 8 --batch 1 --threads 1".split()
    options = [*size, *"--steps 1 --repeats 1 --tcmalloc".split()]
    finished = run_benchmark(SCRIPT, *options, "")
    assert finished.returncode == 0, finished.stderr
    _, *rows = (line.strip("|").split("|") for line in finished.stdout.splitlines() if line[:2] == "| ")
    found = [tuple(cell.strip() for cell in row[:2]) for row in rows]
    assert found == [(f"cityscapes-4 {loss}", way) for loss in losses for way in ("torch", "ops")]
    assert all(row[2].strip().endswith("MB") and row[4].strip().endswith("ms") for row in rows)
