"""What a run leaves behind, and its log."""

import json

import pytest

from ladderseg_fast.engine import RunDirectory, RunLog


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create(overwrite=False)
    return run


def test_refuses_to_overwrite_a_checkpoint(run):
    run.create(overwrite=False)
    for path in (run.last, run.best):
        path.write_bytes(b"precious")
        with pytest.raises(FileExistsError, match=r"run holds a checkpoint already; .*--overwrite it, or --resume it"):
            run.create(overwrite=False)
        assert path.read_bytes() == b"precious"
        path.unlink()


def test_overwriting_leaves_nothing_of_the_earlier_run(run):
    run.tensorboard.mkdir()
    mine = [run.path / "notes.txt", run.tensorboard / "notes.txt"]
    old = [run.last, run.best, run.log, run.config, run.curve, run.report, run.overlays / "a.png"]
    old += [
        run.tensorboard / "events.out.tfevents.1",
        run.path / ".last.pt.1.partial",
        run.overlays / ".a.png.1.partial",
    ]
    for path in old + mine:
        path.touch()
    run.create(overwrite=True)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in mine)


def test_where_a_file_is(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(OSError, match="run is not a directory"):
        RunDirectory(tmp_path / "run").create(overwrite=False)


def test_result_is_the_best_checkpoint_or_the_last(run):
    with pytest.raises(FileNotFoundError, match=r"run: neither best\.pt nor last\.pt is there"):
        run.result  # noqa: B018
    run.last.touch()
    assert run.result == run.last
    run.best.touch()
    assert run.result == run.best


def test_log_is_one_record_a_line(run):
    log = RunLog(run.log)
    records = [{"kind": "step", "step": 1, "loss": 0.5}, {"kind": "evaluation", "step": 1, "iou": {"sky": None}}]
    for i, record in enumerate(records, start=1):
        log.append(record)
        assert [json.loads(line) for line in run.log.read_text().splitlines()] == records[:i]
    assert log.read() == records


def test_log_is_cut_after_a_step_and_a_batch(run):
    log = RunLog(run.log)
    early = [
        {"kind": "start"},
        {"kind": "step", "step": 1},
        {"kind": "resume", "step": 1},
        {"kind": "skip", "step": 1, "batch": 2},
        {"kind": "step", "step": 2},
        {"kind": "skip", "step": 2, "batch": 4},
    ]
    late = [{"kind": "skip", "step": 2, "batch": 5}, {"kind": "step", "step": 3}, {"kind": "end", "step": 3}]
    for record in early + late:
        log.append(record)
    assert log.cut(step=2, batch=4) == early
    assert log.read() == early
    with pytest.raises(ValueError, match=r"log\.jsonl: does not hold the 3 steps"):
        log.cut(step=3, batch=9)
    assert log.read() == early


def test_log_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*none.log\.jsonl: No such file or directory"):
        RunLog(tmp_path / "none" / "log.jsonl").append({"kind": "step"})
