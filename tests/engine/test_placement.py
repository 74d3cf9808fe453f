"""A training on several devices is that of one, bit for bit. torch has one CPU, which stands for several here."""

import io
from pathlib import Path

import pytest
import torch
from support.ladder_models import TINY
from support.tiny_training import differences, run_training, settings, signal_at

from ladderseg_fast import LadderDenseNet
from ladderseg_fast.cli.main import main
from ladderseg_fast.engine import Config, Interrupted
from ladderseg_fast.engine.device import find_device, find_devices
from ladderseg_fast.engine.placement import place

#: With copies of the model's tensors wherever a training makes any.
CHANGES = {"training.ema_decay": 0.9, "training.on_nonfinite": "skip", "training.accumulate": 2, "training.steps": 2}


def test_the_result_is_that_of_one_device(tmp_path: Path) -> None:
    one = run_training(tmp_path / "one", CHANGES)
    stream = io.StringIO()
    two = run_training(tmp_path / "two", {**CHANGES, "training.device": "cpu,cpu"}, stream=stream)
    assert two.losses == one.losses and two.evaluations == one.evaluations
    assert not differences(tmp_path / "one", tmp_path / "two")
    assert "the model is cut after " in stream.getvalue()


def test_resumed_on_other_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would have gone on without the stop."""
    steps = {"training.steps": 3}
    run_training(tmp_path / "one", steps)
    with signal_at(monkeypatch, 1), pytest.raises(Interrupted):
        run_training(tmp_path / "two", {**steps, "training.device": "cpu,cpu"})
    cuts = {"training.device": "cpu,cpu,cpu", "training.cut_after": ["denseblock2", "context"]}
    stream = io.StringIO()
    run_training(tmp_path / "two", {**steps, **cuts}, resume=True, stream=stream)
    assert "cut after db2, context: db1 to db2 on cpu" in stream.getvalue()
    assert not differences(tmp_path / "one", tmp_path / "two")


def test_a_budget_is_that_of_each_device(tmp_path: Path) -> None:
    stream = io.StringIO()
    changes = {"model.memory": "100MB", "training.device": "cpu,cpu", "training.steps": 1, "output.overlays": 0}
    run_training(tmp_path, changes, stream=stream)
    assert "cut after" in stream.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.device": "cpu,cpu", "model.memory": "plain"}, 'which only model.memory = "lean"'),
        ({"training.cut_after": ["db2"]}, "training.cut_after needs several devices"),
    ],
)
def test_settings_that_exclude_each_other(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(changes)


@pytest.mark.parametrize(
    ("cuts", "message"),
    [(["db9"], "training.cut_after: after must name one of db1"), (["db1", "db2"], "one less than the 2 devices")],
)
def test_cuts_that_do_not_fit(tmp_path: Path, cuts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_training(tmp_path / "run", {"training.device": "cpu,cpu", "training.cut_after": cuts})
    assert not (tmp_path / "run").exists()


def test_one_device_for_each_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = LadderDenseNet(TINY, 3), settings({"training.device": "cpu,cpu"}).resolved(4)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="training.device must be one device for each of several processes"):
        place(model, config, [torch.device("cpu")] * 2)


def test_names_of_devices() -> None:
    assert find_devices("cpu") == [torch.device("cpu")]
    assert find_devices("cpu,cpu") == [torch.device("cpu")] * 2
    for names in ("auto,cpu", "cpu,auto"):
        with pytest.raises(ValueError, match="several devices must be of one kind"):
            find_devices(names)
    with pytest.raises(ValueError, match="'cuda:99' is not available"):
        find_devices("cpu,cuda:99")
    with pytest.raises(ValueError, match="one device is expected here, got 'cpu,cpu'"):
        find_device("cpu,cpu")


def test_settings_file_keeps_the_cuts() -> None:
    config = settings({"training.device": "cpu,cpu", "training.cut_after": ["db2"]}).resolved(4)
    assert config.training.device == "cpu,cpu" and config.training.cut_after == ("db2",)
    assert Config.from_tables(config.as_tables()).as_tables() == config.as_tables()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And going on with one device, where the cut of the run's settings is taken back."""
    run = str(tmp_path / "run")
    short = ["--model", "tiny", "--size", "64x96", "--workers", "0", "--steps", "1"]
    assert main(["train", *short, "--device", "cpu,cpu", "--cut-after", "denseblock3", "--out", run]) == 0
    assert "the model is cut after db3: db1 to db3 on cpu" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--steps", "2", "--device", "cpu"]) == 2
    assert "--cut-after auto takes it back" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--steps", "2", "--device", "cpu", "--cut-after", "auto"]) == 0
    assert main(["evaluate", run, "--data", "street", "--device", "cpu,cpu"]) == 2
    assert "only a training can have several" in capsys.readouterr().err
