"""The progress line on a terminal and elsewhere."""

import io

import pytest

from ladderseg_fast.engine import progress as module
from ladderseg_fast.engine.pace import Pace
from ladderseg_fast.engine.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in seconds."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("ladderseg_fast.engine.pace.time.perf_counter", lambda: clock[0])
    return clock


def test_plain_lines_are_few(clock):
    stream = io.StringIO()
    progress = Progress(stream, "train", 1000)
    for done in range(1, 1001):
        clock[0] += 0.5
        progress.update(done, f"loss {done}")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[0] == "train 1/1000  loss 1  8:20 left"
    assert lines[-1] == "train 1000/1000  loss 1000  0:00 left"


def test_time_left_counts_from_where_it_was_resumed(clock):
    stream = io.StringIO()
    progress = Progress(stream, "train", 100, done=90)
    clock[0] += 1000.0
    progress.update(91, "")
    assert stream.getvalue() == "train 91/100  2:30:00 left\n"


def test_a_total_that_was_estimated_too_low_grows(clock):
    """As that of the frames of a video may be."""
    stream = Terminal()
    progress = Progress(stream, "predict", 2)
    clock[0] += 1.0
    for done in (1, 2, 3):
        progress.update(done, "")
    assert stream.getvalue().endswith("predict [####################] 3/3  0:00 left")


def test_a_terminal_that_is_gone_at_the_end():
    class Gone(Terminal):
        gone = False

        def write(self, text):
            if self.gone:
                raise BrokenPipeError("nobody reads")
            return super().write(text)

    def run(error):
        stream = Gone()
        with Progress(stream, "train", 2) as progress:
            progress.update(1, "")
            stream.gone = True
            if error is not None:
                raise error

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        run(None)
    with pytest.raises(ValueError, match="says more"):
        run(ValueError("says more"))


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


def test_pace_tells_waiting_from_working(clock):
    pace = Pace()
    for waits, works in (([1.0, 2.0], [3.0, 4.0]), ([0.0, 0.0], [10.0, 10.0])):
        pace.restart()
        for wait, work in zip(waits, works, strict=True):
            clock[0] += wait
            pace.batch_arrived()
            clock[0] += work
            pace.batch_done()
        pace.step_done()
        # An evaluation belongs to no step.
        clock[0] += 1000.0
        assert (pace.seconds, pace.waited) == (sum(waits) + sum(works), sum(waits))
    assert pace.average_seconds == pytest.approx(0.9 * 10.0 + 0.1 * 20.0)
    assert pace.waiting_share == pytest.approx(0.9 * 3.0 / 11.0)


@pytest.mark.real_use
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_text_that_the_stream_cannot_encode(encoding):
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="strict")
    Progress(stream, "train", 2).note("\u00e9 \udcff")
    assert buffer.getvalue().decode(encoding) in ("\\xe9 \\udcff\n", "\u00e9 \\udcff\n")


@pytest.mark.real_use
@pytest.mark.parametrize("failing", ["write", "flush"])
def test_stream_that_is_gone(failing):
    stream = Terminal()
    progress = Progress(stream, "train", 2)

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    setattr(stream, failing, fail)
    with pytest.raises(BrokenPipeError, match=r"nobody reads the progress any more \(Input/output error\)"):
        progress.note("text")
    # What ended the block is not hidden behind it.
    with pytest.raises(ValueError, match="the reason"), progress:
        raise ValueError("the reason")
