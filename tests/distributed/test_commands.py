"""`ladderseg train` and `ladderseg evaluate` in several processes, beside one process."""

import io
import json
from pathlib import Path

import pytest
import torch
from support.rank_processes import Command, run_ranks
from support.tiny_training import differences

from ladderseg_fast.cli.main import main
from ladderseg_fast.engine import RunDirectory, build_model, load_checkpoint
from ladderseg_fast.engine.config_tables import build_config, read_config_file
from ladderseg_fast.engine.distributed import World
from ladderseg_fast.engine.learner import Learner
from ladderseg_fast.engine.loaders import open_splits
from ladderseg_fast.engine.validation import Validation

from .conftest import FROZEN, JOINT, MORE, OWN, SKIP


def records(path: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in RunDirectory(path).log.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def check_same(path: Path, expected: Path) -> None:
    """The runs have the same losses, scores and weights, up to rounding."""
    for kind, keys in (("step", ("step", "epoch", "learning_rate")), ("evaluation", ("step",))):
        for one, other in zip(records(path, kind), records(expected, kind), strict=True):
            assert {key: one[key] for key in keys} == {key: other[key] for key in keys}
            if kind == "step":
                assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    for name in ("last.pt", "best.pt"):
        one, other = (load_checkpoint(run / name) for run in (path, expected))
        assert one.step == other.step
        for key, value in other.state.items():
            torch.testing.assert_close(one.state[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_equals_one_process(runs, ended, tmp_path):
    assert [end.status for end in ended["frozen"]] == [0, 0], ended["frozen"]
    assert main(["train", *FROZEN, "--out", str(tmp_path / "one")]) == 0
    check_same(runs / "frozen", tmp_path / "one")
    pixels = [
        [[sum(row) for row in record["confusion"]] for record in records(run, "evaluation")]
        for run in (runs / "frozen", tmp_path / "one")
    ]
    assert pixels[0] == pixels[1], "every pixel counts once"


def test_scores_are_those_of_one_process(runs, ended, tmp_path):
    assert [end.status for end in ended["evaluated"]] == [0, 0], ended["evaluated"]
    alone = tmp_path / "one.json"
    assert main(["evaluate", str(runs / "frozen"), "--data", "street", "--json", str(alone), "--device", "cpu"]) == 0
    assert json.loads((runs / "two.json").read_text()) == json.loads(alone.read_text())


def test_scores_in_training_are_those_of_one_process(runs, ended):
    """16 images in batches of 2, of which each process had every other."""
    config = build_config([read_config_file(runs / "frozen" / "config.toml")])
    _, samples = open_splits(config.data)
    validation = Validation(config, samples, torch.device("cpu"), io.StringIO(), World())
    last = load_checkpoint(runs / "frozen" / "last.pt")
    scores = validation.scores(build_model(last, torch.device("cpu")), last.step, lambda: None)
    record = records(runs / "frozen", "evaluation")[-1]
    assert record["step"] == last.step
    assert (record["miou"], record["confusion"]) == (scores.miou, scores.confusion.tolist())


def test_worst_images_are_those_of_one_process(runs, ended, tmp_path):
    arguments = ["evaluate", str(runs / "frozen"), "--data", "street", "--worst", "3", "--out", str(tmp_path / "one")]
    assert main(arguments) == 0
    pictures = [{path.name: path.read_bytes() for path in at.iterdir()} for at in (tmp_path / "one", runs / "worst")]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 3


def test_the_first_process_alone_speaks(ended):
    for name in ("frozen", "evaluated", "own", "went on"):
        first, other = ended[name]
        assert (first.status, other.status) == (0, 0), ended[name]
        assert "images" in first.output
        assert (other.output, other.errors) == ("", "")
    assert sum(line.startswith("train ") for line in ended["frozen"][0].errors.splitlines()) == 4


def test_interrupted_evaluation_is_said_once(ended):
    first, other = ended["stopped by Ctrl-C"]
    assert (first.status, other.status) == (130, 130), ended["stopped by Ctrl-C"]
    assert first.errors == "ladderseg: interrupted\n"
    assert other.errors == ""


def test_one_process_writes_the_run(runs, ended):
    assert ended["own"][0].status == 0
    assert [record["processes"] for record in records(runs / "own", "start")] == [2]
    assert len(records(runs / "own", "step")) == 4
    names = {path.name for path in (runs / "own").iterdir()}
    assert names == {"config.toml", "log.jsonl", "last.pt", "best.pt", "curve.png", "overlays", ".ladderseg.files"}


def test_running_statistics_are_those_of_all_processes(runs, ended, tmp_path):
    """The mean of the shares' means is the batch's, in the first batch norm of the first step."""
    assert [end.status for end in ended["first step"]] == [0, 0], ended["first step"]
    assert main(["train", *OWN, "--steps", "1", "--out", str(tmp_path / "one")]) == 0
    two, one = (load_checkpoint(run / "last.pt").state for run in (runs / "first", tmp_path / "one"))
    name = "features.norm0.running_mean"
    torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_synchronised_batch_norm_equals_one_process(runs, ended, tmp_path):
    assert [end.status for end in ended["joint"]] == [0, 0], ended["joint"]
    assert main(["train", *OWN, *JOINT, "--out", str(tmp_path / "one")]) == 0
    two, one, own = (
        [record["loss"] for record in records(run, "step")] for run in (runs / "joint", tmp_path / "one", runs / "own")
    )
    # Statistics of a few pixels magnify rounding.
    assert two == pytest.approx(one, rel=1e-4)
    assert two[0] == pytest.approx(one[0], rel=2e-6)
    assert own[0] != pytest.approx(one[0], rel=1e-3), "where each has its own statistics, the loss is another"


def test_signal_to_one_ends_the_count_of_all(runs, ended):
    first, other = ended["uncounted"]
    assert (first.status, other.status) == (143, 143), ended["uncounted"]
    assert "ladderseg: interrupted before the first step" in first.errors
    assert other.errors == ""


def test_a_stopped_run_goes_on_with_the_same_bits(runs, ended):
    """The signal reached one of the two; each has its own batch norm, whose statistics are averaged."""
    assert [end.status for end in ended["repeated"]] == [143, 143], ended["repeated"]
    assert "interrupted at step 2 of 4; saved" in ended["repeated"][0].errors
    assert ended["repeated"][1].errors == ""
    assert differences(runs / "repeated", runs / "own") == []
    assert [r["loss"] for r in records(runs / "repeated", "step")] == [r["loss"] for r in records(runs / "own", "step")]


def test_two_then_four_then_one(runs, ended, tmp_path, capsys):
    """Stopped in the middle of a step each time; the images of the steps stay the same."""
    run = runs / "stopped"
    assert [end.status for end in ended["stopped"]] == [143, 143], ended["stopped"]
    (four,) = run_ranks(4, [Command(["train", "--resume", str(run)], (3, "signal", 2))])
    assert [end.status for end in four] == [143] * 4, four
    assert "last.pt was written by 2 processes, now there are 4" in four[0].errors
    assert load_checkpoint(run / "last.pt").training_state["batches"] == 5
    assert main(["train", "--resume", str(run)]) == 0
    assert "written by 4 processes, now there are 1" in capsys.readouterr().err
    assert [record["processes"] for record in records(run, "resume")] == [4, 1]
    assert main(["train", *MORE, "--out", str(tmp_path / "one")]) == 0
    check_same(run, tmp_path / "one")


def test_batch_that_is_not_finite_in_one_is_skipped_by_all(runs, ended, tmp_path, monkeypatch):
    assert [end.status for end in ended["skipped"]] == [0, 0], ended["skipped"]
    original, calls = Learner.add_batch, []

    def add_batch(self, images, labels):
        calls.append(0)
        return original(self, images * float("nan") if len(calls) == 2 else images, labels)

    monkeypatch.setattr(Learner, "add_batch", add_batch)
    assert main(["train", *FROZEN, *SKIP, "--out", str(tmp_path / "one")]) == 0
    check_same(runs / "skipped", tmp_path / "one")
    skipped = records(runs / "skipped", "skip")
    assert len(skipped[0]["files"]) == 4
    assert skipped == records(tmp_path / "one", "skip")


def test_loss_that_is_not_finite_in_one_ends_all(ended):
    first, other = ended["not finite"]
    assert (first.status, other.status) == (2, 2)
    assert "loss is nan at step 2 of 4 (" in first.errors
    assert other.errors == ""


def test_refused(ended):
    for name, text in (
        ("odd", "training.batch must be divisible by the 2 processes, which share each batch, got 3"),
        ("plain", 'training.sync_bn needs model.memory = "lean" on the CPU'),
        ("several", "training.device must be one name with 2 processes, which have a device each, got 'cpu,cpu'"),
        ("predicted", "this command needs one process, but it was started as 2"),
    ):
        first, other = ended[name]
        assert (first.status, other.status) == (2, 2)
        assert f"ladderseg: error: {text}" in first.errors
    assert ended["odd"][1].errors == ended["plain"][1].errors == ""


def test_full_disk_of_the_first_ends_all(runs, ended):
    first, other = ended["full disk"]
    assert (first.status, other.status) == (2, 2)
    assert "No space left on device" in first.errors
    assert other.errors == ""
    assert load_checkpoint(runs / "full" / "last.pt").step == 2


def test_what_one_cannot_read_ends_all_and_costs_nothing(runs, ended):
    first, other = ended["broken image"]
    assert (first.status, other.status) == (2, 2)
    assert "ladderseg: error: rank 1: frame.png: truncated file; saved" in first.errors
    assert other.errors == ""
    assert load_checkpoint(runs / "broken" / "last.pt").step == 2


def test_bug_in_one_ends_all_and_is_shown(runs, ended):
    first, other = ended["bug"]
    assert first.status == 2
    saved = f"saved {runs / 'bug' / 'last.pt'} at step 2 of 4"
    assert f"ladderseg: error: rank 1: KeyError: 'a bug'; {saved}\n" in first.errors
    assert other.status == "KeyError"
