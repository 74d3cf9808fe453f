"""Sizes at which the network sees images: which ones it accepts, and a warning about images that it sees too small."""

from collections.abc import Callable

from ..engine.distributed import World


def check_network_size(size: tuple[int, int], least: int) -> None:
    """Raises ValueError if a side of `size` (height, width) is below `least`, the smallest that the network can see."""
    if min(size) < least:
        raise ValueError(f"--size must be at least {least}x{least}, got {size[0]}x{size[1]}")


class ShrunkImages:
    """Counts images that are shrunk more than twofold for the network although nobody asked for it.

    Args:
        say: prints a line; called at the first such image, and at the end if there were more.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._images = self._shrunk = 0
        self._first = ""

    def add(self, name: object, size: tuple[int, int], seen: tuple[int, int]) -> None:
        """Notes an image of `size` (height, width) that the network saw at the size `seen`."""
        self._images += 1
        if max(size[0] / seen[0], size[1] / seen[1]) <= 2.0:
            return
        self._shrunk += 1
        if self._shrunk == 1:
            self._first = (
                f"ladderseg: warning: {name}: {size[0]}x{size[1]} pixels, but the network sees {seen[0]}x{seen[1]}, "
                "about the size of its training; small things get lost. --size HxW gives another size, --size own the "
                "image's"
            )
            self._say(self._first)

    def finish(self, world: World | None = None) -> None:
        """Reports the number of shrunk images, all processes' together; call it after the last image."""
        all_counts = (world or World()).gather((self._images, self._shrunk, self._first))
        if not self._shrunk:
            for first in [first for _, _, first in all_counts if first][:1]:
                self._say(first)
        self._images, self._shrunk = sum(c[0] for c in all_counts), sum(c[1] for c in all_counts)
        if self._shrunk > 1:
            self._say(f"ladderseg: warning: {self._shrunk} of {self._images} images were shrunk more than twofold")
