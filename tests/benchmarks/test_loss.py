"""benchmarks/loss.py as a whole, at a size that takes seconds."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loss.py"


def test_losses_are_measured_and_checked() -> None:
    size = "--cases cityscapes-4 --losses ohem,cross_entropy_dice --shrink 8 --batch 1 --threads 1".split()
    options = [*size, *"--steps 1 --repeats 1 --tcmalloc".split()]
    command = [sys.executable, str(SCRIPT), *options, ""]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    _, *rows = (line.strip("|").split("|") for line in finished.stdout.splitlines() if line[:2] == "| ")
    losses = ("ohem", "cross_entropy_dice")
    found = [tuple(cell.strip() for cell in row[:2]) for row in rows]
    assert found == [(f"cityscapes-4 {loss}", way) for loss in losses for way in ("torch", "ops")]
    assert all(row[2].strip().endswith("MB") and row[4].strip().endswith("ms") for row in rows)
