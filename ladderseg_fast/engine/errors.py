"""What ends a training before its last step, besides files and settings."""

import signal


class NonFiniteError(RuntimeError):
    """The loss or a weight has become NaN or infinite."""


class Interrupted(RuntimeError):
    """Ctrl-C or SIGTERM has ended the training.

    Attributes:
        signal: which of them.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.signal = number
