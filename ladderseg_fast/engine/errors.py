"""What ends a training before its last step, besides files and settings."""

import signal


class NonFiniteError(RuntimeError):
    """The loss or a weight has become NaN or infinite."""


class SystemRefusal(RuntimeError):
    """The system has refused what is needed, memory say, or has taken it: a process that loads images, the terminal."""


class Interrupted(RuntimeError):
    """Ctrl-C, SIGTERM or SIGHUP has ended the training.

    Attributes:
        signal: which of them.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.signal = number
