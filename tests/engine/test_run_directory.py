"""What a run leaves behind, and its log."""

import errno
import json
import os

import pytest

from ladderseg_fast.engine import RunDirectory, RunLog
from ladderseg_fast.engine.written_files import WrittenFiles


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
    mine = [run.path / "notes.txt", run.tensorboard / "notes.txt", run.overlays / "b.png", run.path / ".b.partial"]
    old = [run.last, run.best, run.log, run.curve, run.report, run.overlays / "a.png"]
    old += [
        run.tensorboard / "events.out.tfevents.1.ladderseg",
        run.path / ".last.pt.1.partial",
        run.overlays / ".a.png.1.partial",
    ]
    run.will_write(run.overlays / "a.png")
    for path in old + mine:
        path.touch()
    run.write_config("seed = 1\n")
    # As another process does it.
    RunDirectory(run.path).create(overwrite=True)
    assert not any(path.exists() for path in [*old, run.config])
    assert all(path.exists() for path in mine)


def content(directory):
    """Everything below, links not followed: paths, with the bytes of files."""
    paths = sorted(directory.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


#: What a run would write, made by somebody else.
USERS_FILES = ("config.toml", "log.jsonl", "last.pt", "curve.png", "report.html", "overlays/a.png", "notes.txt")


@pytest.mark.real_use
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("names", [USERS_FILES, *((name,) for name in USERS_FILES)], ids=str)
def test_directory_of_the_users_is_refused(tmp_path, names, overwrite):
    path = tmp_path / "run"
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text('{"kind": "start"}\n')
    before = content(path)
    with pytest.raises(FileExistsError, match="run is not empty, and no training of ladderseg wrote its files"):
        RunDirectory(path).create(overwrite)
    assert content(path) == before


@pytest.mark.real_use
def test_empty_directory_is_taken(tmp_path):
    RunDirectory(tmp_path).create(overwrite=False)
    assert RunDirectory(tmp_path).overlays.is_dir()


@pytest.mark.real_use
def test_run_that_was_killed_before_its_list_was_there(tmp_path):
    (tmp_path / ".ladderseg.lock").touch()
    (tmp_path / "..ladderseg.files.1.partial").touch()
    RunDirectory(tmp_path).create(overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ladderseg.files", ".ladderseg.lock", "overlays"]


@pytest.mark.real_use
def test_configuration_that_was_edited_is_kept(run):
    run.write_config("seed = 1\n")
    assert run.config_is_ours()
    run.config.write_text("seed = 2\n")
    assert not run.config_is_ours()
    with pytest.raises(FileExistsError, match=r"run holds config\.toml, which its run did not write, or .* changed"):
        run.create(overwrite=True)
    assert run.config.read_text() == "seed = 2\n"
    run.create(overwrite=True, keep_config=True)
    assert run.config.read_text() == "seed = 2\n"
    assert not run.config_is_ours()
    # What a run wrote before is its own, whichever of its versions it is.
    run.write_config("seed = 3\n")
    run.write_config("seed = 4\n")
    run.config.write_text("seed = 3\n")
    run.create(overwrite=True)
    assert not run.config.exists()


@pytest.mark.real_use
@pytest.mark.parametrize("name", ["overlays", "tensorboard", "log.jsonl", "last.pt"])
def test_nothing_is_removed_through_a_link(run, tmp_path, name):
    elsewhere = tmp_path / "pictures"
    elsewhere.mkdir()
    files = [elsewhere / "a.png", elsewhere / "events.out.tfevents.1.ladderseg", elsewhere / ".a.png.1.partial"]
    for path in files:
        path.write_text("mine")
    run.will_write(run.overlays / "a.png")
    if name == "overlays":
        run.overlays.rmdir()
    (run.path / name).symlink_to(files[0] if "." in name else elsewhere)
    with pytest.raises(FileExistsError, match=rf"run holds {name}, which its run did not write"):
        run.create(overwrite=True)
    with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
        run.take_up()
    assert all(path.read_text() == "mine" for path in files)
    assert (run.path / name).is_symlink()


@pytest.mark.real_use
def test_list_that_came_with_somebody_elses_run(run, tmp_path):
    mine = [tmp_path / "mine", run.path / "mine"]
    for path in mine:
        path.touch()
    link = run.path / "link"
    link.symlink_to(tmp_path)
    with open(run.path / ".ladderseg.files", "a") as file:
        for name in ("../mine", str(tmp_path / "mine"), "link/mine", "overlays/../mine", "."):
            file.write(json.dumps({"file": name}) + "\n")
        file.write('{"file": "min')
    run = RunDirectory(run.path)
    run.create(overwrite=True)
    assert all(path.exists() for path in mine)
    (run.path / ".ladderseg.files").write_text("no list\n")
    with pytest.raises(FileExistsError, match="no training of ladderseg wrote its files"):
        RunDirectory(run.path).create(overwrite=True)


def test_where_a_file_is(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(OSError, match="run is not a directory"):
        RunDirectory(tmp_path / "run").create(overwrite=False)


def test_result_is_the_best_checkpoint_or_the_last(run):
    with pytest.raises(FileNotFoundError, match=r"run: there is neither best\.pt nor last\.pt"):
        run.result  # noqa: B018
    run.last.touch()
    assert run.result == run.last
    run.best.touch()
    assert run.result == run.best


def step_record(step):
    return {"kind": "step", "step": step, "epoch": step / 10, "loss": 0.5}


def test_log_is_one_record_a_line(run):
    log = RunLog(run.log)
    scores = {"epoch": 0.1, "miou": 0.5, "pixel_accuracy": 0.5, "iou": {"sky": None}}
    records = [step_record(1), {"kind": "evaluation", "step": 1} | scores]
    for i, record in enumerate(records, start=1):
        log.append(record)
        assert [json.loads(line) for line in run.log.read_text().splitlines()] == records[:i]
    assert log.read() == records


def test_log_is_cut_after_a_step_and_a_batch(run):
    log = RunLog(run.log)
    early = [
        {"kind": "start"},
        step_record(1),
        {"kind": "resume", "step": 1},
        {"kind": "skip", "step": 1, "batch": 2},
        step_record(2),
        {"kind": "skip", "step": 2, "batch": 4},
    ]
    late = [{"kind": "skip", "step": 2, "batch": 5}, step_record(3), {"kind": "end", "step": 3}]
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


@pytest.mark.real_use
def test_list_with_a_name_that_is_none(run):
    """Nothing is removed before it is known that the list is one."""
    run.last.write_bytes(b"precious")
    with open(run.path / ".ladderseg.files", "ab") as file:
        file.write(b'{"file": 5}\n')
    with pytest.raises(FileExistsError, match="no training of ladderseg wrote its files"):
        RunDirectory(run.path).create(overwrite=True)
    assert run.last.read_bytes() == b"precious"


def test_list_of_another_format(run):
    run.last.write_bytes(b"precious")
    (run.path / ".ladderseg.files").write_text('{"format": "another"}\n')
    with pytest.raises(FileExistsError, match="no training of ladderseg wrote its files"):
        RunDirectory(run.path).create(overwrite=True)
    assert run.last.read_bytes() == b"precious"


def test_report_may_be_a_link_to_a_page(run, tmp_path):
    run.report.symlink_to(tmp_path / "page.html")
    (tmp_path / "page.html").write_text("<!DOCTYPE html><title>a</title>")
    run.check_page()
    (tmp_path / "page.html").write_text("notes")
    with pytest.raises(ValueError, match=r"report\.html is a symbolic link to .*page\.html, which is no report"):
        run.check_page()


def test_no_leftovers_are_removed_from_a_linked_folder(run, tmp_path):
    run.overlays.rmdir()
    run.overlays.symlink_to(tmp_path)
    for folder in (tmp_path, run.path):
        (folder / ".a.png.1.partial").touch()
        (folder / ".last.pt.1.partial").touch()
    run.clear_leftovers()
    assert (tmp_path / ".a.png.1.partial").exists() and (tmp_path / ".last.pt.1.partial").exists()
    assert not (run.path / ".last.pt.1.partial").exists()


def test_list_whose_last_line_a_full_disk_cut_off(run):
    """What the next training adds begins a line of its own, and the directory stays known as a run's."""
    run.create(overwrite=False)
    files = run.path / ".ladderseg.files"
    files.write_bytes(files.read_bytes() + b'{"file": "overlays/a.p')
    again = RunDirectory(run.path)
    again.take_up()
    again.will_write(run.overlays / "b.png")
    assert WrittenFiles(files).names()[-1] == "overlays/b.png"
    assert WrittenFiles(files).names() == again._written.names()


def test_log_that_cannot_be_forced_to_the_disk(run, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    run.create(overwrite=False)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl: Input/output error"):
        RunLog(run.log).sync()
