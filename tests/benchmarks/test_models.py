"""benchmarks/models.py, run on one small configuration."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "models.py"


def test_table(tmp_path: Path) -> None:
    arguments = ["--models", "densenet121_32x", "--size", "64x96", "--batch", "4", "--warmup", "1", "--steps", "1"]
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    line = next(line for line in finished.stdout.splitlines() if line.startswith("| densenet121_32x"))
    name, title, parameters, arithmetic, *measured = (cell.strip() for cell in line.strip("|").split("|"))
    assert (name, title, parameters) == ("densenet121_32x", "DenseNet-121 32x", "8.07 M")
    # The convolutions of DenseNet-121 take 5.7 GFLOP at 224x224, in proportion to the pixels.
    assert 0.5 < float(arithmetic.removesuffix(" GFLOP")) < 1.5
    assert len(measured) == 4 and all(cell.endswith(("GB", "s")) for cell in measured)
