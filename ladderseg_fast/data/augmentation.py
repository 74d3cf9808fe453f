"""Random changes of training images: their ranges, and the choices for one image.

`TrainingBatches` makes the choices together with the choice of the images, and sends them along with the index. So they
do not depend on which worker loads the image, nor on what it did before.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ColourChange(NamedTuple):
    """Change of one image's colours; the default changes nothing."""

    brightness: float = 1.0
    """Factor of all values."""
    contrast: float = 1.0
    """Factor of the distance from the mean grey of the image."""
    saturation: float = 1.0
    """Factor of the distance from the pixel's own grey."""
    hue: float = 0.0
    """Rotation of the hues, in turns."""


@dataclass(frozen=True)
class Draw:
    """One image of a batch, and its random choices."""

    index: int
    flip: bool = False
    """Whether left and right are exchanged."""
    scale: float = 1.0
    """Factor of both sides, before the crop."""
    corner: tuple[float, float] = (0.5, 0.5)
    """Place of the crop: the shares, 0 to 1, of the spare rows and columns that lie above it and to its left."""
    colour: ColourChange = ColourChange()


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random choices in training; the default is the paper's recipe, horizontal flips alone.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    flip: bool = True
    """Exchange left and right of every other image."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and greatest factor of the size, drawn evenly in the logarithm: 1/2 is as likely as 2."""
    brightness: float = 0.0
    """Greatest distance of the factor from 1, 0 to 1; likewise for `contrast` and `saturation`."""
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
        """Returns one Draw for each of the indices 0 to `count` - 1.

        Takes the same numbers from `rng` whatever the settings are: switching one on does not change the others.
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
