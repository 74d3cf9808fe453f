"""ladderseg plan."""

import json
import re
from pathlib import Path

import pytest

from ladderseg_fast.cli.main import main
from ladderseg_fast.memory import format_bytes

STEP = ["plan", "--model", "densenet121", "--size", "64x128", "--batch", "4"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDERSEG_FAST_CACHE", str(tmp_path / "cache"))


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*STEP, "--budget", "240MB", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    content = json.loads(file.read_text())
    for part in ("parameters and buffers", "gradients", "optimizer", "kept: db1", "workspace", "scores, loss"):
        assert part in out
    assert f"predicted peak: {format_bytes(content['peak_bytes'])} of 240.0 MB" in out
    assert re.search(r"predicted time: 1\.\d\d of the fastest plan's", out)
    assert "cost model: defaults" in out and "--calibrate" in out
    assert content["peak_bytes"] == sum(content["parts_bytes"].values()) <= 240e6
    assert content["plan"]["sections"]["db1"]["recompute"] in (True, False)


def test_without_a_budget_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(STEP) == 0
    assert "predicted time: 1.00 of the fastest plan's" in capsys.readouterr().out


def test_largest_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STEP, "--budget", "208MB", "--max-batch"]) == 0
    found = int(re.search(r"(\d+) x 64x128", capsys.readouterr().out)[1])
    assert found >= 2
    assert main([*STEP[:-1], str(2 * found), "--budget", "208MB"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "10MB"], "the smallest takes .* MB; of 2 x 64x128"),
        (["--budget", "10MB", "--max-batch"], "the smallest takes"),
        (["--max-size"], "need a --budget"),
        (["--size", "8x8"], "input_shape must have"),
    ],
)
def test_errors_in_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STEP, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)


@pytest.mark.parametrize("options", [["--budget", "lots"], ["--device", "tpu"], ["--model", "vgg16"]])
def test_bad_options(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*STEP, *options])
    assert caught.value.code == 2
