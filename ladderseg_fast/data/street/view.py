"""Pinhole camera over flat ground, and a canvas that draws colours and labels in one go."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..label_set import IGNORE_INDEX

#: (X to the right, Y above the ground, Z ahead), in metres; the camera stands at X = Z = 0.
Point = tuple[float, float, float]
#: (R, G, B), 0 to 255.
Colour = tuple[float, float, float]

#: Nearest depth drawn; what is nearer lies outside every picture.
NEAR = 1.0
#: Depth at which the street ends.
FAR = 130.0


@dataclass(frozen=True)
class Camera:
    """Place and lens of the camera; lengths in the picture are fractions, so a scene fits any size."""

    horizon: float
    """Height of the horizon from the top, as a fraction of the picture's height."""
    centre: float
    """Distance of the vanishing point from the left, as a fraction of the width of the picture."""
    focal: float
    """Focal length as a fraction of the picture's width."""
    height: float
    """Metres above the ground."""
    bend: float
    """Sideways bend of the street: metres per squared metre ahead."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Camera":
        """Draws a place and a lens."""
        return cls(
            horizon=rng.uniform(0.36, 0.5),
            centre=rng.uniform(0.4, 0.6),
            focal=rng.uniform(0.5, 0.75),
            height=rng.uniform(1.3, 2.1),
            bend=rng.uniform(-0.0012, 0.0012),
        )


class View:
    """Picture that is drawn from far to near: `colour` (RGB) and `labels` (8 bits).

    Everything fades into `haze` with its distance; `visibility` is the depth in metres at which 63 % has.
    """

    def __init__(self, camera: Camera, size: tuple[int, int], haze: Colour, visibility: float) -> None:
        self.camera = camera
        self.height, self.width = size
        self.haze = haze
        self.visibility = visibility
        self.colour = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), IGNORE_INDEX)
        self._colour = ImageDraw.Draw(self.colour)
        self._labels = ImageDraw.Draw(self.labels)

    def project(self, point: Point) -> tuple[float, float]:
        """Projects `point` to coordinates (x, y) of the picture, in pixels."""
        camera = self.camera
        x, y, z = point
        z = max(z, NEAR)
        scale = camera.focal * self.width / z
        return (
            camera.centre * self.width + scale * (x + camera.bend * z * z),
            camera.horizon * self.height + scale * (camera.height - y),
        )

    def polygon(self, points: Sequence[Point], colour: Colour, label: int | None) -> None:
        """Fills a polygon; without a label it paints over what is there and leaves its class."""
        depth = sum(point[2] for point in points) / len(points)
        corners = [self.project(point) for point in points]
        self._colour.polygon(corners, fill=self._faded(colour, depth))
        if label is not None:
            self._labels.polygon(corners, fill=label)

    def disc(self, centre: Point, radius_x: float, radius_y: float, colour: Colour, label: int | None) -> None:
        """Fills an ellipse that faces the camera; radii in metres."""
        x, y, z = centre
        left, top = self.project((x - radius_x, y + radius_y, z))
        right, bottom = self.project((x + radius_x, y - radius_y, z))
        box = (left, top, right, bottom)
        self._colour.ellipse(box, fill=self._faded(colour, z))
        if label is not None:
            self._labels.ellipse(box, fill=label)

    def upright(
        self, left: float, right: float, low: float, high: float, z: float, colour: Colour, label: int | None
    ) -> None:
        """Fills a rectangle that faces the camera at depth `z`, between the heights `low` and `high`."""
        self.polygon([(left, low, z), (right, low, z), (right, high, z), (left, high, z)], colour, label)

    def ground_strip(
        self, left: float, right: float, near: float, far: float, colour: Colour, label: int | None
    ) -> None:
        """Fills the ground between X = `left` and `right`, along the bend of the street."""
        depths = np.geomspace(max(near, NEAR), max(far, NEAR), 24).tolist()
        points = [(left, 0.0, z) for z in depths] + [(right, 0.0, z) for z in reversed(depths)]
        corners = [self.project(point) for point in points]
        self._colour.polygon(corners, fill=self._faded(colour, near))
        if label is not None:
            self._labels.polygon(corners, fill=label)

    def background(self, horizon_down: bool, colour: Colour, label: int) -> None:
        """Fills the picture above (`horizon_down` False) or below the horizon."""
        y = round(self.camera.horizon * self.height)
        box = (0, y, self.width, self.height) if horizon_down else (0, 0, self.width, y)
        self._colour.rectangle(box, fill=_rgb(colour))
        self._labels.rectangle(box, fill=label)

    def foreground_arc(self, rise: float, colour: Colour, label: int) -> None:
        """Fills the upper arc of an ellipse at the bottom edge; `rise` is a fraction of the height of the picture."""
        width, height = self.width, self.height
        box = (-0.1 * width, height * (1 - rise), 1.1 * width, height * (1 + rise))
        self._colour.ellipse(box, fill=_rgb(colour))
        self._labels.ellipse(box, fill=label)

    def _faded(self, colour: Colour, depth: float) -> tuple[int, int, int]:
        share = 1.0 - float(np.exp(-depth / self.visibility))
        red, green, blue = (c + share * (h - c) for c, h in zip(colour, self.haze, strict=True))
        return _rgb((red, green, blue))


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(value))) for value in colour)
    return red, green, blue
