"""`ladderseg report` as a user runs it."""

import re

import pytest
from support.run_logs import write_run

from ladderseg_fast.cli.main import main


def test_page_goes_into_the_run(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"written to {run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_real_run(trained, tmp_path):
    out = tmp_path / "page.html"
    assert main(["report", str(trained), "--out", str(out)]) == 0
    page = out.read_text()
    assert "Not in the log" not in page and "No evaluation" not in page
    assert page.count("data:image/png;base64,") == 4


def test_several_runs_need_a_place(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name)) for name in ("one", "other")]
    assert main(["report", *runs]) == 2
    assert capsys.readouterr().err == "ladderseg: error: a report of several runs needs --out FILE\n"
    assert main(["report", *runs, "--out", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize(
    ("log", "message"),
    [(None, r"log\.jsonl: no such file \(the log of a run\)"), ("?\n", r"log\.jsonl: not a log of ladderseg \(.*\)")],
)
def test_errors_are_one_line(tmp_path, capsys, log, message):
    if log is not None:
        (tmp_path / "log.jsonl").write_text(log)
    assert main(["report", str(tmp_path)]) == 2
    assert re.fullmatch(rf"ladderseg: error: .*{message}\n", capsys.readouterr().err)
    assert not (tmp_path / "report.html").exists()


def test_no_place_to_write(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert re.fullmatch(r"ladderseg: error: cannot write .*page\.html: No such file.*\n", capsys.readouterr().err)


@pytest.mark.real_use
def test_page_through_a_link(tmp_path):
    run, page = write_run(tmp_path / "run"), tmp_path / "elsewhere" / "page.html"
    page.parent.mkdir()
    (run / "report.html").symlink_to(page)
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_symlink()
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.real_use
def test_empty_path(tmp_path, capsys):
    for arguments in ([""], [str(write_run(tmp_path / "run")), "--out", ""]):
        with pytest.raises(SystemExit):
            main(["report", *arguments])
        assert "expected the path of a file or directory, got ''" in capsys.readouterr().err


@pytest.mark.real_use
@pytest.mark.parametrize("name", ["last.pt", "best.pt", "log.jsonl", "config.toml"])
def test_page_in_place_of_the_run(trained, capsys, name):
    content = (trained / name).read_bytes()
    assert main(["report", str(trained), "--out", str(trained / name)]) == 2
    assert f"{name} of the run" in capsys.readouterr().err
    assert (trained / name).read_bytes() == content
