"""A run that was stopped and resumed ends with the bits of one that never stopped."""

import io
import json
import os
import random
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_training import SIZE, DrawnOnce, differences, run_interrupted, run_training, settings, signal_at

from ladderseg_fast.data import StreetScenes
from ladderseg_fast.engine import (
    Interrupted,
    RunDirectory,
    evaluate,
    learning_rate_factor,
    load_checkpoint,
    save_checkpoint,
)
from ladderseg_fast.engine.config_tables import build_config, read_config_file
from ladderseg_fast.engine.learner import Learner


def records(path, kind):
    lines = [json.loads(line) for line in RunDirectory(path).log.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.parametrize(
    ("batches", "changes"),
    [
        pytest.param([1, 2], {}, id="lean"),
        pytest.param([3], {"training.accumulate": 2, "training.clip_norm": 0.5}, id="within-an-accumulation"),
        pytest.param(
            [4],
            {
                "training.ema_decay": 0.9,
                "training.optimizer": "sgd",
                "training.warmup_steps": 3,
                "training.weight_decay": 1e-3,
                "training.class_weights": "balanced",
            },
            id="average-sgd-balanced",
        ),
        pytest.param(
            [2],
            {
                "data.workers": 2,
                "data.crop": [64, 64],
                "data.scale": [0.7, 1.4],
                "data.brightness": 0.3,
                "data.hue": 0.1,
                "training.optimizer": "adamw",
                "model.frozen_bn": True,
            },
            id="workers-augmentation-frozen",
        ),
        pytest.param(
            [2],
            {
                "model.memory": "plain",
                "model.channels_last": True,
                "training.autocast": "bfloat16",
                "training.on_nonfinite": "skip",
            },
            id="plain-channels_last-bfloat16",
        ),
    ],
)
def test_same_bits_as_without_a_stop(tmp_path, monkeypatch, batches, changes):
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    run_interrupted(monkeypatch, stopped, batches, changes)
    resumed = run_training(stopped, changes, resume=True)
    # Loader processes decide nothing.
    expected = run_training(straight, changes | {"data.workers": 0})
    assert differences(stopped, straight) == []
    assert resumed.losses == expected.losses
    assert resumed.evaluations == expected.evaluations
    best = [load_checkpoint(RunDirectory(path).best) for path in (stopped, straight)]
    assert best[0].step == best[1].step
    assert all(torch.equal(best[0].state[name], value) for name, value in best[1].state.items())


def test_random_numbers_go_on(tmp_path, monkeypatch):
    """No layer of the models draws any yet; here the images get noise from all three generators."""
    original = Learner.add_batch

    def add_batch(self, images, labels):
        noise = random.random() + np.random.randn() + torch.randn_like(images)
        return original(self, images + 0.1 * noise, labels)

    monkeypatch.setattr(Learner, "add_batch", add_batch)
    run_interrupted(monkeypatch, tmp_path / "stopped", [2])
    run_training(tmp_path / "stopped", resume=True)
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "stopped", tmp_path / "straight") == []


def test_log_has_every_step_and_evaluation_once(tmp_path, monkeypatch):
    with signal_at(monkeypatch, 4), pytest.raises(Interrupted):
        run_training(tmp_path / "run", {"output.checkpoint_every": 1})
    run = RunDirectory(tmp_path / "run")
    # As if it had been killed: the log is ahead of the checkpoint, and its last line is not complete.
    with open(run.log, "a") as file:
        file.write(json.dumps({"kind": "step", "step": 5, "epoch": 1, "loss": 99.0}) + "\n")
        file.write('{"kind": "evaluation", "step": 5, "mi')
    (run.path / ".last.pt.1.partial").touch()
    run_training(tmp_path / "run", resume=True)
    assert [record["step"] for record in records(run.path, "step")] == [1, 2, 3, 4, 5]
    assert [record["step"] for record in records(run.path, "evaluation")] == [3, 5]
    assert [record["step"] for record in records(run.path, "resume")] == [4]
    assert [record["step"] for record in records(run.path, "end")] == [5]
    assert all(record["loss"] < 99 for record in records(run.path, "step"))
    assert not (run.path / ".last.pt.1.partial").exists()


def test_killed_between_a_step_and_its_evaluation(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def killed(self, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ladderseg_fast.engine.validation.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            run_training(path)
    assert load_checkpoint(RunDirectory(path).last).step == 3
    assert records(path, "evaluation") == []
    assert [evaluation.step for evaluation in run_training(path, resume=True).evaluations] == [3, 5]


def test_resuming_before_the_first_checkpoint_starts(tmp_path, monkeypatch):
    def killed(self, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ladderseg_fast.engine.learner.Learner.update", killed)
        with pytest.raises(KeyboardInterrupt):
            run_training(tmp_path / "run")
    assert not RunDirectory(tmp_path / "run").last.exists()
    run_training(tmp_path / "run", resume=True)
    run_training(tmp_path / "straight")
    assert differences(tmp_path / "run", tmp_path / "straight") == []
    assert len(records(tmp_path / "run", "start")) == 1


def test_resuming_what_has_ended_changes_nothing(tmp_path):
    path = tmp_path / "run"
    before = run_training(path)
    log = RunDirectory(path).log.read_bytes()
    after = run_training(path, resume=True)
    assert (after.losses, after.evaluations, after.overlays) == (before.losses, before.evaluations, before.overlays)
    assert RunDirectory(path).log.read_bytes() == log


def test_run_keeps_settings_version_and_revision(tmp_path):
    run_training(tmp_path / "run", {"training.seed": 7})
    text = RunDirectory(tmp_path / "run").config.read_text()
    assert re.match(r"# Settings of a training with ladderseg_fast \d+\.\d+\.\d+, in .*git re", text)
    assert read_config_file(RunDirectory(tmp_path / "run").config).values["training.seed"] == 7
    assert build_config([read_config_file(RunDirectory(tmp_path / "run").config)]) == settings(
        {"training.seed": 7}
    ).resolved(4)
    start = records(tmp_path / "run", "start")[0]
    assert start["config"] == load_checkpoint(RunDirectory(tmp_path / "run").last).config
    assert {"version", "git_revision", "git_modified"} < start.keys()


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """Run directory of a training that was stopped at its second step."""
    run_interrupted(monkeypatch, tmp_path / "run", [2])
    return tmp_path / "run"


def test_what_may_change(stopped):
    changes = {"data.workers": 1, "output.checkpoint_every": 1, "output.overlays": 2, "output.evaluate_every": 2}
    result = run_training(stopped, changes, resume=True)
    assert [evaluation.step for evaluation in result.evaluations] == [2, 4, 5]
    assert len(result.overlays) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training.batch": 4},
            "training.batch cannot change from 2 to 4 when .*last.pt is resumed; training.init_from",
        ),
        ({"data.flip": False}, "data.flip cannot change from True to False"),
        (
            {"training.steps": 1},
            "training.steps must be at least 2 when .*last.pt is resumed, which has done .*, got 1",
        ),
    ],
)
def test_what_may_not_change(stopped, changes, message):
    before = RunDirectory(stopped).log.read_bytes()
    with pytest.raises(ValueError, match=message):
        run_training(stopped, changes, resume=True)
    assert RunDirectory(stopped).log.read_bytes() == before


def killed_process(self, *arguments):
    raise KeyboardInterrupt


LONGER = {"training.steps": 8}


@pytest.mark.real_use
def test_longer_schedule_of_what_has_ended(tmp_path):
    """The learning rate follows the new length from the step that was reached; all else goes on."""
    path, stream = tmp_path / "run", io.StringIO()
    changes = {"training.warmup_steps": 2, "training.ema_decay": 0.9, "output.checkpoint_every": 7}
    first = run_training(path, changes)
    result = run_training(path, changes | LONGER, stream=stream, resume=True)
    assert "resumed at step 5 of 8, formerly of 5: the learning rate follows the new length" in stream.getvalue()
    assert result.losses[:5] == first.losses
    rates = [record["learning_rate"] for record in records(path, "step")]
    lengths = [5] * 5 + [8] * 3
    assert rates == [5e-4 * learning_rate_factor(step, length, 1.5, 2) for step, length in enumerate(lengths)]
    # The evaluation of the former end stays, and competes for the best.
    assert [evaluation.step for evaluation in result.evaluations] == [3, 5, 6, 8]
    assert result.evaluations[:2] == first.evaluations
    assert load_checkpoint(path).step == result.best.step
    kinds = [json.loads(line)["kind"] for line in RunDirectory(path).log.read_text().splitlines()]
    assert [kind for kind in kinds if kind in ("start", "end", "resume")] == ["start", "end", "resume", "end"]
    (resume,) = records(path, "resume")
    assert (resume["step"], resume["steps_before"], resume["config"]["training"]["steps"]) == (5, 5, 8)
    assert read_config_file(RunDirectory(path).config).values["training.steps"] == 8
    assert load_checkpoint(RunDirectory(path).last).config["training"]["steps"] == 8
    # It has ended again.
    log = RunDirectory(path).log.read_bytes()
    assert run_training(path, changes | LONGER, resume=True).losses == result.losses
    assert RunDirectory(path).log.read_bytes() == log


@pytest.mark.real_use
@pytest.mark.parametrize("batches", [[], [3]], ids=["ended", "stopped"])
def test_longer_schedule_has_the_bits_of_one_that_was_planned(tmp_path, monkeypatch, batches):
    """Where the learning rate does not depend on the length."""
    changes = {"training.power": 0.0, "training.optimizer": "sgd"}
    run_interrupted(monkeypatch, tmp_path / "run", batches, changes)
    if not batches:
        run_training(tmp_path / "run", changes)
    run_training(tmp_path / "run", changes | LONGER, resume=True)
    run_training(tmp_path / "straight", changes | LONGER)
    assert differences(tmp_path / "run", tmp_path / "straight") == []


@pytest.mark.real_use
def test_longer_schedule_that_is_stopped_and_resumed(tmp_path, monkeypatch):
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    for path in (stopped, straight):
        run_training(path)
    with signal_at(monkeypatch, 2), pytest.raises(Interrupted, match="at step 7 of 8"):
        run_training(stopped, LONGER, resume=True)
    config = build_config([read_config_file(RunDirectory(stopped).config)])
    assert config.training.steps == 8
    for path in (stopped, straight):
        run_training(path, LONGER, resume=True)
    assert differences(stopped, straight) == []
    # Killed before it had a checkpoint of its own, and resumed.
    killed = tmp_path / "killed"
    run_training(killed)
    with monkeypatch.context() as patch:
        patch.setattr("ladderseg_fast.engine.learner.Learner.update", killed_process)
        with pytest.raises(KeyboardInterrupt):
            run_training(killed, LONGER, resume=True)
    run_training(killed, LONGER, resume=True)
    assert differences(killed, straight) == []


@pytest.mark.real_use
def test_shorter_schedule_ends_where_it_is(stopped):
    result = run_training(stopped, {"training.steps": 2}, resume=True)
    assert [evaluation.step for evaluation in result.evaluations] == [2]
    assert result.ended


@pytest.mark.real_use
def test_longer_schedule_with_an_edited_configuration(tmp_path):
    path = tmp_path / "run"
    run_training(path)
    config = RunDirectory(path).config
    config.write_text(config.read_text() + "# my notes\n")
    with pytest.raises(ValueError, match=r"config\.toml was changed since the run wrote it: write steps = 8 under"):
        run_training(path, LONGER, resume=True)
    edited = config.read_text().replace("steps = 5", "steps = 8")
    config.write_text(edited)
    assert run_training(path, LONGER, resume=True).step == 8
    assert config.read_text() == edited


class Renamed(DrawnOnce):
    """The same scenes under other names, or in another order."""

    def __init__(self, names):
        super().__init__(len(names), seed=0)
        self.names = names

    def name(self, index):
        return self.names[index]


@pytest.mark.real_use
@pytest.mark.parametrize("names", ["abdc", "abce"])
def test_another_list_of_images(tmp_path, monkeypatch, names):
    path = tmp_path / "run"
    with signal_at(monkeypatch, 2), pytest.raises(Interrupted):
        run_training(path, training_set=Renamed("abcd"))
    log = RunDirectory(path).log.read_bytes()
    with pytest.raises(
        ValueError, match=r"last\.pt cannot be resumed: the training split has other images than before"
    ):
        run_training(path, training_set=Renamed(names), resume=True)
    assert RunDirectory(path).log.read_bytes() == log
    # A checkpoint of release 0.1 has no names.
    checkpoint = load_checkpoint(RunDirectory(path).last)
    del checkpoint.training_state["names"]
    save_checkpoint(RunDirectory(path).last, checkpoint)
    assert run_training(path, training_set=Renamed(names), resume=True).step == 5


def test_another_number_of_images(stopped):
    with pytest.raises(ValueError, match="the training split had 4 images, now it has 5"):
        run_training(stopped, training_set=StreetScenes(5, SIZE), resume=True)


def test_classes_of_another_name(stopped):
    run = RunDirectory(stopped)
    checkpoint = load_checkpoint(run.last)
    names = checkpoint.label_set.names
    other = replace(checkpoint.label_set, names=(*names[1:], names[0]))
    save_checkpoint(run.last, replace(checkpoint, label_set=other))
    with pytest.raises(ValueError, match="the classes of the training split are no longer the same"):
        run_training(stopped, resume=True)


def test_weights_alone_cannot_be_resumed(stopped):
    run = RunDirectory(stopped)
    checkpoint = load_checkpoint(run.last)
    save_checkpoint(run.last, type(checkpoint)(**{**vars(checkpoint), "training_state": None}))
    with pytest.raises(ValueError, match=r"last\.pt cannot be resumed: it holds weights only"):
        run_training(stopped, resume=True)


def test_damaged_checkpoint_says_what_there_is_instead(stopped, tmp_path):
    run = RunDirectory(stopped)
    whole = run.last.read_bytes()
    run.last.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"last\.pt: not a checkpoint, .* no other checkpoint that is whole: --over"):
        run_training(stopped, resume=True)
    run.best.write_bytes(whole)
    message = r"last\.pt: not a checkpoint, .*; .*best\.pt is whole: --init-from .*best\.pt starts .*, of step 2$"
    with pytest.raises(ValueError, match=message):
        run_training(stopped, resume=True)
    run_training(tmp_path / "other", {"training.init_from": str(run.best)})


@pytest.mark.parametrize("content", ["", '{"kind": "step", "step": 1}\n', "no JSON\n", "[1]\n"])
def test_log_that_does_not_fit(stopped, content):
    RunDirectory(stopped).log.write_text(content)
    with pytest.raises(ValueError, match=r"log\.jsonl: (does not hold the 2 steps|not a log of ladderseg)"):
        run_training(stopped, resume=True)


def test_another_number_of_threads_is_told(stopped):
    stream = io.StringIO()
    path = RunDirectory(stopped).last
    checkpoint = load_checkpoint(path)
    checkpoint.training_state["threads"] = 64
    save_checkpoint(path, checkpoint)
    run_training(stopped, stream=stream, resume=True)
    assert "last.pt was written with 64 threads, now there are 1: the last bits will differ" in stream.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_saves_and_leaves(tmp_path, monkeypatch, number):
    outside = signal.getsignal(number)
    if outside is signal.SIG_IGN:  # as SIGHUP is under nohup
        signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    try:
        with (
            signal_at(monkeypatch, 2, number),
            pytest.raises(Interrupted, match="interrupted at step 2 of 5; saved") as info,
        ):
            run_training(tmp_path / "run")
        assert info.value.signal == number
        assert load_checkpoint(RunDirectory(tmp_path / "run").last).step == 2
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, outside)


def test_signal_during_an_evaluation(tmp_path, monkeypatch):
    module = "ladderseg_fast.engine.validation.evaluate"
    with monkeypatch.context() as patch:
        patch.setattr(module, lambda *arguments: (os.kill(os.getpid(), signal.SIGTERM), evaluate(*arguments))[1])
        with pytest.raises(Interrupted, match="interrupted at step 3 of 5"):
            run_training(tmp_path / "run", {"training.ema_decay": 0.9})
    assert records(tmp_path / "run", "evaluation") == []
    run_training(tmp_path / "run", {"training.ema_decay": 0.9}, resume=True)
    run_training(tmp_path / "straight", {"training.ema_decay": 0.9})
    # The average was in the model's place when the signal came.
    assert differences(tmp_path / "run", tmp_path / "straight") == []
