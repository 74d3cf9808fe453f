"""benchmarks/speed.py and benchmarks/breakdown.py as a whole, at a size that takes seconds."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.processes import run_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEP_OPTIONS = "--size 128x128 --batch 2 --threads 2 --warmup 1 --steps 1".split()


def run(script: str, *options: str, folder: Path = BENCHMARKS) -> subprocess.CompletedProcess[str]:
    return run_script(folder / script, *STEP_OPTIONS, *options)


def rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:2] == "| "]


@pytest.mark.slow
def test_training_and_prediction_are_timed(tmp_path: Path) -> None:
    # A recorded result of this very day would be added to: there is none.
    copy = shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.json"))
    folder = Path(copy)
    options = "--methods plain,plain-lean-loss,lean --repeats 1 --record --tcmalloc".split()
    finished = run("speed.py", *options, "", folder=folder)
    assert finished.returncode == 0, finished.stderr
    header, *training = rows(finished.stdout.partition("One prediction")[0])
    _, *prediction = rows(finished.stdout.partition("One prediction")[2])
    assert header[0] == "method"
    assert [row[0] for row in training] == ["plain", "plain-lean-loss", "lean"]
    assert [row[0] for row in prediction] == ["plain", "lean"]
    for task in (training, prediction):
        assert all(re.fullmatch(r"\d+\.\d\d s", row[1]) for row in task)
        assert min(float(row[2]) for row in task if row[0] != "lean") == 1.0
    assert "LadderLoss(memory" in finished.stdout
    (path,) = (folder / "results").glob("*.json")
    recorded = json.loads(path.read_text())["measurements"]
    assert [each["name"] for each in recorded] == [
        *(f"training {method} 2 x 128x128" for method in ("plain", "plain-lean-loss", "lean")),
        *(f"prediction {method} 2 x 128x128" for method in ("plain", "lean")),
    ]
    assert [each["kind"] for each in recorded] == ["step"] * 3 + ["prediction"] * 2
    assert f"{recorded[0]['result']['median_ms'] / 1e3:.2f} s" == training[0][1]
    assert "tcmalloc was not found" in finished.stdout


@pytest.mark.slow
def test_an_allocator_that_cannot_be_loaded_is_a_failure() -> None:
    options = "--tasks prediction --methods plain --repeats 1 --tcmalloc /no/such.so"
    finished = run("speed.py", *options.split())
    assert finished.returncode == 1
    assert "plain + tcmalloc failed: /no/such.so cannot be preloaded" in finished.stderr


def test_breakdown_accounts_for_the_whole_step() -> None:
    finished = run("breakdown.py")
    assert finished.returncode == 0, finished.stderr
    operators, stages = finished.stdout.split("\n| stage")
    shares = [row[3] for row in rows(operators)[1:]]
    assert abs(sum(float(share.removesuffix(" %")) for share in shares) - 100.0) < 1.0
    names = [row[0] for row in rows(operators)]
    assert {"bn_relu_conv1x1_backward", "bn_relu_conv3x3_backward", "stem_forward", "the rest"} <= set(names)
    assert "DenseBlockStage db3 backward" in stages


@pytest.mark.slow
def test_breakdown_of_a_prediction() -> None:
    finished = run("breakdown.py", "--predict")
    assert finished.returncode == 0, finished.stderr
    assert "One prediction of LDN-121" in finished.stdout
    assert "backward" not in finished.stdout
