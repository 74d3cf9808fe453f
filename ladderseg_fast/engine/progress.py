"""Progress of a long loop, for people to watch."""

import shutil
import time
from types import TracebackType
from typing import TextIO

from .terminal import printable

_BAR_WIDTH = 20


class Progress:
    """One line that is rewritten in place on a terminal; elsewhere about `plain_lines` separate lines.

    As a context manager it clears the line at the end, however the block ends. Characters that the stream's encoding
    lacks are printed as escapes.

    Args:
        done: how many of `total` were finished before; they took none of the time that the rest is estimated from.

    Raises:
        BrokenPipeError: nobody reads the output: the other end of the pipe is closed, or the terminal is gone.
    """

    def __init__(self, stream: TextIO, label: str, total: int, plain_lines: int = 20, done: int = 0) -> None:
        self._stream = stream
        self._label = label
        self._total = total
        self._plain_lines = plain_lines
        self._in_place = stream.isatty()
        self._done_before = done
        self._start = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.clear()
        except BrokenPipeError:
            # Else the error that is under way says more.
            if error is None:
                raise

    def update(self, done: int, details: str) -> None:
        """Shows that `done` of the total are finished; `details` is the rest of the line.

        A total that was estimated too low grows.
        """
        self._total = max(self._total, done)
        if self._in_place:
            filled = _BAR_WIDTH * done // self._total
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            self._rewrite(f"{self._label} [{bar}] {self._line(done, details)}")
        elif self._due(done):
            self._write(printable(f"{self._label} {self._line(done, details)}") + "\n")

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        self.clear()
        self._write(f"{printable(text)}\n")

    def clear(self) -> None:
        """Removes the line that is rewritten in place, so that something else can be printed."""
        if self._in_place:
            self._rewrite("")

    def _line(self, done: int, details: str) -> str:
        return "  ".join(part for part in (f"{done}/{self._total}", details, self._remaining(done)) if part)

    def _due(self, done: int) -> bool:
        if self._plain_lines == 0:
            return False
        first = self._done_before + 1
        return done in (first, self._total) or done % max(1, self._total // self._plain_lines) == 0

    def _rewrite(self, line: str) -> None:
        # One column stays free: a full line would make some terminals scroll.
        columns = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[K" + printable(line)[:columns])

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        except OSError as error:
            raise BrokenPipeError(f"nobody reads the progress any more ({error.strerror})") from error

    def _remaining(self, done: int) -> str:
        pace = (time.monotonic() - self._start) / (done - self._done_before)
        minutes, seconds = divmod(round(pace * (self._total - done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"
