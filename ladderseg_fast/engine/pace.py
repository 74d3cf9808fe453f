"""Speed of a training's steps."""

import time

#: Weight of the past in the moving averages.
_MEMORY = 0.9


class Pace:
    """Measures each step, and how much of it the training spent waiting for images."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Seconds of the last step."""
        self.waited = 0.0
        """Seconds of the last step in which the training waited."""
        self._averages: tuple[float, float] | None = None
        self.restart()

    def restart(self) -> None:
        """Begins the next step, which waits for its first batch."""
        self._began = self._waits_since = time.perf_counter()
        self._waiting = 0.0

    def batch_arrived(self) -> None:
        """Ends the wait for a batch."""
        self._waiting += time.perf_counter() - self._waits_since

    def batch_done(self) -> None:
        """Begins the wait for the next batch."""
        self._waits_since = time.perf_counter()

    def step_done(self) -> None:
        """Ends the step."""
        self.seconds, self.waited = time.perf_counter() - self._began, self._waiting
        seconds, waited = self._averages or (self.seconds, self.waited)
        self._averages = (
            _MEMORY * seconds + (1 - _MEMORY) * self.seconds,
            _MEMORY * waited + (1 - _MEMORY) * self.waited,
        )

    @property
    def average_seconds(self) -> float:
        """Moving average of the steps' seconds."""
        assert self._averages is not None, "no step is done"
        return self._averages[0]

    @property
    def waiting_share(self) -> float:
        """Moving average of the share of the time that the steps waited: 0 to 1."""
        assert self._averages is not None, "no step is done"
        return self._averages[1] / self._averages[0]
