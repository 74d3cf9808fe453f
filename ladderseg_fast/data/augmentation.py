"""Random changes of training images: how far they may go, and the choices made for one image.

The choices are made where the images are chosen, in `TrainingBatches`, and travel with the index: so they do not depend
on which worker loads the image, nor on what it did before.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ColourChange(NamedTuple):
    """How the colours of one image change; the default leaves them as they are."""

    brightness: float = 1.0
    """Factor of all values."""
    contrast: float = 1.0
    """Factor of the distance from the image's mean grey."""
    saturation: float = 1.0
    """Factor of the distance from the pixel's own grey."""
    hue: float = 0.0
    """Rotation of the hues, in turns."""


@dataclass(frozen=True)
class Draw:
    """One image of a batch, and everything about it that was left to chance."""

    index: int
    flip: bool = False
    """Left and right are exchanged."""
    scale: float = 1.0
    """Factor of both sides, before the crop."""
    corner: tuple[float, float] = (0.5, 0.5)
    """Where the crop lies: shares, from 0 to 1, of the rows and columns that are left over above and to its left."""
    colour: ColourChange = ColourChange()


@dataclass(frozen=True)
class Augmentation:
    """What is left to chance in training; the default is the paper's recipe, horizontal flips.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    flip: bool = True
    """Exchange left and right of every other image."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and greatest factor of the image's size. Even in the logarithm: 1/2 is as likely as 2."""
    brightness: float = 0.0
    """The factor lies within this of 1; likewise for `contrast` and `saturation`. From 0 to 1."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Greatest rotation of the hues either way, in turns: 0 to 0.5."""

    def __post_init__(self) -> None:
        least, greatest = self.scale
        if not 0.0 < least <= greatest < np.inf:
            raise ValueError(f"scale must be two positive numbers, the smaller first, got {least} and {greatest}")
        for name, limit in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            if not 0.0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be 0 to {limit:g}, got {getattr(self, name)}")

    def draws(self, count: int, rng: np.random.Generator) -> list[Draw]:
        """One Draw for each of the indices 0 to `count` - 1.

        Takes the same numbers from `rng` whatever the settings: switching one of them on leaves the others' choices.
        """
        flips = rng.random(count) < 0.5
        least, greatest = np.log(self.scale)
        scales = np.exp(rng.uniform(least, greatest, count))
        corners = rng.random((count, 2)).tolist()
        reach = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        colours = (np.array(ColourChange()) + reach * rng.uniform(-1.0, 1.0, (count, 4))).tolist()
        return [
            Draw(i, self.flip and bool(flips[i]), float(scales[i]), tuple(corners[i]), ColourChange(*colours[i]))
            for i in range(count)
        ]
