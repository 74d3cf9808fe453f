"""Errors that end a training before its last step, besides errors of files and settings."""

import signal


class NonFiniteError(RuntimeError):
    """The loss or a weight became NaN or infinite."""


class SystemRefusal(RuntimeError):
    """The system refused something, such as memory, or took it away: a process that loads images, the terminal."""


class Interrupted(RuntimeError):
    """Ctrl-C, SIGTERM or SIGHUP ended the training.

    Attributes:
        signal: the signal that did.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.signal = number


class RankError(SystemRefusal):
    """Another process of the same run failed or is gone; the message names it by its rank."""
