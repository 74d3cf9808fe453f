"""benchmarks/distributed.py as a whole, at a size that takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import run_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OPTIONS = "--size 128x128 --batch 2 --warmup 1 --steps 1 --repeats 1".split()


@pytest.mark.slow
def test_two_processes_beside_one() -> None:
    command = [sys.executable, str(BENCHMARKS / "distributed.py"), *OPTIONS]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    lines = [line for line in finished.stdout.splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header[0] == "method"
    assert [row[:2] for row in rows] == [["plain", "1"], ["plain", "2"], ["lean", "1"], ["lean", "2"]]
    assert rows[0][3] == rows[2][3] == "1.00"
    # Of 9.6 million parameters.
    assert {tuple(row[5:]) for row in rows if row[1] == "2"} == {("3", "38.4 MB")}
    assert {tuple(row[5:]) for row in rows if row[1] == "1"} == {("-", "-")}


def test_a_batch_that_cannot_be_shared() -> None:
    options = "--method lean --batch 3 --processes 2".split()
    finished = run_script(BENCHMARKS / "distributed_step.py", *options)
    assert finished.returncode == 2
    assert "--batch 3 cannot be shared by 2 processes" in finished.stderr
