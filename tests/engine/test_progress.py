"""The progress line on a terminal and elsewhere."""

import io

from ladderseg_fast.engine import format_bytes
from ladderseg_fast.engine.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_are_few():
    stream = io.StringIO()
    progress = Progress(stream, "train", 1000)
    for done in range(1, 1001):
        progress.update(done, f"loss {done}")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[0] == "train 1/1000  loss 1"
    assert lines[-1] == "train 1000/1000  loss 1000"


def test_no_plain_lines_if_none_are_wanted():
    stream = io.StringIO()
    Progress(stream, "evaluate", 1, plain_lines=0).update(1, "")
    assert stream.getvalue() == ""


def test_terminal_line_is_rewritten_and_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    progress = Progress(stream, "train", 4)
    progress.update(1, "loss 2.5")
    progress.update(2, "loss 2.0 " * 10)
    assert "\n" not in stream.getvalue()
    first, second = stream.getvalue().split("\r\x1b[K")[1:]
    assert first.startswith("train [#####...............] 1/4  loss ")
    assert len(first) <= 39
    assert len(second) == 39


def test_line_is_cleared_when_the_loop_fails(monkeypatch):
    stream = Terminal()
    try:
        with Progress(stream, "train", 4) as progress:
            progress.update(1, "loss 2.5")
            raise ValueError
    except ValueError:
        pass
    assert stream.getvalue().endswith("\r\x1b[K")


def test_bytes_for_people():
    assert format_bytes(300 * 2**20) == "300 MiB"
    assert format_bytes(25 * 2**30 + 2**29) == "25.5 GiB"
