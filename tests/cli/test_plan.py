"""ladderseg plan."""

import json
import re
from pathlib import Path

import pytest
import torch
from support.ladder_models import TINY

from ladderseg_fast.cli.main import main
from ladderseg_fast.cli.plan import choices
from ladderseg_fast.lean import MemoryPlan, SectionPlan
from ladderseg_fast.memory import format_bytes
from ladderseg_fast.memory.cost_model import Rates

STEP = ["plan", "--model", "densenet121", "--size", "64x128", "--batch", "4"]
#: For searches, whose time grows with the number of layers.
TINY_STEP = ["plan", "--model", TINY, "--size", "64x128", "--batch", "4"]


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


def test_reserved_memory_of_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*STEP, "--device", "cuda", "--json", str(file)]) == 0
    content, out = json.loads(file.read_text()), capsys.readouterr().out
    assert content["reserved_bytes"] >= content["peak_bytes"]
    assert f"reserves {format_bytes(content['reserved_bytes'])} of the device" in out
    assert main([*STEP, "--device", "cpu", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["reserved_bytes"] is None
    assert "reserves" not in capsys.readouterr().out


def test_without_a_budget_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(STEP) == 0
    assert "predicted time: 1.00 of the fastest plan's" in capsys.readouterr().out


def test_bands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of --bands or of a run's configuration; images and the first convolution are larger."""
    file, config = tmp_path / "plan.json", tmp_path / "config.toml"
    config.write_text("[data]\nbands = 7\nbits = 16\n")
    found = []
    for options in (["--bands", "7"], ["--config", str(config)]):
        assert main([*STEP, "--model", TINY, *options, "--json", str(file)]) == 0
        found.append(json.loads(file.read_text()))
    assert found[0] == found[1] and found[0]["bands"] == 7
    assert found[0]["parts_bytes"]["images and labels"] == 4 * 64 * 128 * (7 * 4 + 1)
    assert main([*STEP, "--bands", "33"]) == 2
    assert "bands must be 1 to 32, got 33" in capsys.readouterr().err


def test_type_without_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STEP, "--device", "cpu", "--dtype", "float16"]) == 2
    assert "--dtype float16 has no kernels on cpu: it needs a GPU" in capsys.readouterr().err


def test_largest_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY_STEP, "--budget", "40MB", "--max-batch"]) == 0
    found = int(re.search(r"(\d+) x 64x128", capsys.readouterr().out)[1])
    assert found >= 2
    assert main([*TINY_STEP[:-1], str(2 * found), "--budget", "40MB"]) == 2


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
    assert main([*TINY_STEP, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "1000000x1000000"], r"at most 2\^40 pixels .*1000000, 1000000"),
        (["--size", "1" + 400 * "0" + "x64"], r"at most 2\^40 pixels"),
        (["--batch", "1000000000000"], r"at most 2\^40 pixels"),
        # One such image is too little for batch norm: nothing of that is to be heard where two do not fit.
        (["--size", "64x64", "--batch", "2", "--budget", "1MB"], "no plan for 2 x 64x64 in float32 fits into 1.0 MB"),
        (["--size", "64x64", "--budget", "1MB", "--max-batch"], "no plan for 2 x 64x64 in float32 fits into 1.0 MB"),
        (["--size", "64x64", "--batch", "1", "--budget", "1MB", "--max-size"], "the smallest images, 1 x 128x128"),
    ],
)
def test_absurd_steps_end_in_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", TINY, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)


@pytest.mark.real_use
def test_largest_batch_of_images_of_which_one_is_too_little(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["plan", "--model", TINY, "--size", "64x64", "--budget", "40MB", "--max-batch"]
    assert main(options) == 0
    assert int(re.search(r"(\d+) x 64x64", capsys.readouterr().out)[1]) >= 2


@pytest.mark.real_use
def test_very_large_images_are_planned_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", TINY, "--size", "500000x500000"]) == 0
    assert re.search(r"predicted peak: \d{5}\.\d\d GB", capsys.readouterr().out)


@pytest.mark.real_use
def test_budget_of_many_digits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--budget", 400 * "9"])
    assert caught.value.code == 2
    assert "must be below 8 EiB, got 999" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("options", [["--budget", "lots"], ["--device", "tpu"], ["--model", "vgg16"]])
def test_bad_options(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*STEP, *options])
    assert caught.value.code == 2


def test_several_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column for each; the same in the file; and the cut that was asked for, by torchvision's name."""
    file = tmp_path / "plan.json"
    assert main([*STEP, "--devices", "2", "--json", str(file), "--budget", "8GB"]) == 0
    out, content = capsys.readouterr().out, json.loads(file.read_text())
    first, second = content["devices"]
    assert f"cut after {content['cut_after'][0]}, within 8.00 GB on each device" in out
    assert first["sections"][-1] == content["cut_after"][0] and second["sections"][-1] == "head"
    peaks = [format_bytes(each["peak_bytes"]) for each in (first, second)]
    assert re.search(rf"predicted peak +{peaks[0]} +{peaks[1]}\n", out)
    assert re.search(r"predicted time: 1\.\d\d of the fastest plan's on one device", out)
    assert main([*STEP, "--devices", "2", "--cut-after", "denseblock3"]) == 0
    assert re.search(r"cut after db3\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "3", "--cut-after", "db2"], "one less than the 3 devices, got db2"),
        (["--cut-after", "db2"], "one less than the 1 devices, got db2"),
        (["--devices", "2", "--cut-after", "db9"], "after must name one of db1"),
        (["--devices", "99"], "devices must be 1 to 11"),
        (["--devices", "2", "--max-batch", "--budget", "1GB"], "for one device"),
    ],
)
def test_what_several_devices_refuse(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STEP, *options]) == 2
    assert message in capsys.readouterr().err


def test_choices_for_sections_without_bottlenecks():
    sections = {"layer1": SectionPlan(None, bottleneck_bytes=3 << 20), "layer2": SectionPlan(None)}
    lines = choices(MemoryPlan(sections=sections), {})
    assert lines[1].startswith("  layer1: backward in strips of 3.1 MB")
    assert not any("layer2" in line for line in lines)


def test_calibrated_rates_are_stored_and_shown(monkeypatch, tmp_path, capsys):
    file, rates = tmp_path / "rates.json", Rates.default("cpu", 1)
    stored = []
    monkeypatch.setattr("ladderseg_fast.cli.plan.measure_rates", lambda device, dtype: rates)
    monkeypatch.setattr("ladderseg_fast.cli.plan.store_rates", lambda *given: stored.append(given) or file)
    assert main([*STEP, "--calibrate"]) == 0
    assert stored == [(torch.device("cpu"), torch.float32, rates)]
    assert capsys.readouterr().out.startswith(f"calibrated: {file}\n")
