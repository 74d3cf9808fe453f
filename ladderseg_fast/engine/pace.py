"""How fast the steps of a training are, smoothed."""

#: Weight of the past in the moving averages.
_MEMORY = 0.9


class Pace:
    """Moving averages of the seconds per step, and of those in which it waited for its images."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._waiting = 0.0

    def add(self, seconds: float, waiting: float) -> None:
        """A step took `seconds`, of which it was `waiting`."""
        if self._seconds is None:
            self._seconds, self._waiting = seconds, waiting
        else:
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * seconds
            self._waiting = _MEMORY * self._waiting + (1 - _MEMORY) * waiting

    def images_per_second(self, images: int) -> float:
        """Of steps with `images` images."""
        return images / self._seconds

    @property
    def waiting_share(self) -> float:
        """From 0 to 1."""
        return self._waiting / self._seconds
