"""Run folders and configurations from somebody else: where paths lead, and what is written where."""

import os
import stat
from pathlib import Path

import pytest
from support.data_trees import make_folder
from support.run_logs import write_run

from ladderseg_fast.cli.main import main
from ladderseg_fast.engine.config import Config
from ladderseg_fast.engine.config_tables import build_config, config_text, read_config_file
from ladderseg_fast.engine.git_revision import git_revision
from ladderseg_fast.engine.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that somebody else made, in a folder of its own."""
    directory = RunDirectory(tmp_path / "run")
    directory.create(overwrite=False)
    return directory


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "precious"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "config.toml", "log.jsonl", "curve.png", "overlays/a.png"])
def test_resumed_run_does_not_write_through_a_link(run, precious, name):
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious)
    with pytest.raises(ValueError, match=rf"{name} is a symbolic link to {precious}, which is not in the run"):
        run.take_up()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["overlays", "tensorboard"])
def test_resumed_run_does_not_write_into_a_linked_folder(run, precious, name):
    folder = run.path / name
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(precious.parent)
    with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
        run.take_up()


def test_link_within_the_run_is_its_owners(run):
    (run.path / "real.pt").write_bytes(b"x")
    run.last.symlink_to("real.pt")
    run.take_up()


def test_report_does_not_replace_what_a_link_leads_to(tmp_path, precious, capsys):
    run = write_run(tmp_path / "run")
    (run / "report.html").symlink_to(precious)
    assert main(["report", str(run)]) == 2
    assert "is no report and would be overwritten" in capsys.readouterr().err
    assert precious.read_text() == "precious"


def test_report_does_not_hold_what_a_link_leads_to(tmp_path):
    run, other = write_run(tmp_path / "run", overlays=1), write_run(tmp_path / "other", overlays=2)
    (run / "overlays" / "mine.png").symlink_to(other / "overlays" / "frame1.png")
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "frame0" in page and "mine" not in page


@pytest.mark.parametrize("path", ["~/data", "$HOME/data", "${HOME}", "a\nb", "\x1b[2J", "../up", "/absolute"])
def test_paths_are_taken_as_they_are_written(tmp_path, path, monkeypatch):
    """No home directory, no variable of the environment gets into a path, and a file keeps every character."""
    monkeypatch.setenv("HOME", "/home/somebody")
    table = {"output": {"directory": path}, "training": {"init_from": path}}
    config = Config.from_tables(Config().as_tables() | {n: Config().as_tables()[n] | table[n] for n in table})
    file = tmp_path / "config.toml"
    file.write_text(config_text(config, None))
    assert "\x1b" not in file.read_text()
    found = build_config([read_config_file(file)])
    assert (found.output.directory, found.training.init_from) == (path, path)


def test_message_about_a_path_is_printable(tmp_path, capsys):
    """A name cannot clear the screen, write a title, or turn the text around."""
    name = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp"
    assert main(["predict", str(tmp_path / name), "x.png", "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert r"a\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp" in printed.err
    assert not any(character in printed.out + printed.err for character in "\x1b\x07\x9b\u202e")


def test_names_of_classes_are_printable(tmp_path, capsys):
    folder_root = make_folder(tmp_path / "folder")
    file = folder_root / "classes.toml"
    text = file.read_text(encoding="utf-8")
    first = text.partition('name = "')[2].partition('"')[0]
    file.write_text(text.replace(f'"{first}"', r'"\u001b[2Jroad"'), encoding="utf-8")
    main(["data", "check", "--data", "folder", "--root", str(folder_root), "--split", "train"])
    printed = capsys.readouterr()
    assert r"\x1b[2Jroad" in printed.out and "\x1b" not in printed.out + printed.err


def test_git_runs_no_program_of_the_repository(tmp_path):
    """A repository from somebody else may name a program that git runs whenever it looks at the files."""
    for command in ("init -q", "config user.email a@b.example", "config user.name a"):
        assert os.system(f"git -C {tmp_path} {command}") == 0
    (tmp_path / "file").write_text("a")
    assert os.system(f"git -C {tmp_path} add file && git -C {tmp_path} commit -qm a") == 0
    program = tmp_path / "watch"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(stat.S_IRWXU)
    assert os.system(f"git -C {tmp_path} config core.fsmonitor {program}") == 0
    assert git_revision(tmp_path) is not None
    assert not (tmp_path / "ran").exists()
