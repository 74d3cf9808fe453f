"""Layout of a street: its things and their places, drawn from far to near."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..label_set import IGNORE_INDEX
from .classes import StreetClass
from .objects import draw_building, draw_car, draw_lamp_post, draw_pedestrian, draw_sign, draw_tree, jitter, shade
from .view import FAR, NEAR, Camera, View

#: (depth, draws the object): sorted by depth, the far ones are drawn first.
Placed = tuple[float, Callable[[], None]]


@dataclass(frozen=True)
class Street:
    """Widths in metres; the road runs from X = `left` to X = `right`."""

    left: float
    right: float
    pavement: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Street":
        """Draws the widths."""
        return cls(left=-rng.uniform(3.0, 8.0), right=rng.uniform(2.5, 6.0), pavement=rng.uniform(1.8, 4.5))

    def kerb(self, side: int) -> float:
        """Returns X of the edge of the road on the left (-1) or right (1)."""
        return self.left if side < 0 else self.right


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> View:
    """Draws a random street at `size` (height, width), in flat colours without texture or light."""
    sky = jitter(rng, (165, 190, 220), 14.0) if rng.random() < 0.5 else jitter(rng, (175, 178, 180), 22.0)
    view = View(Camera.random(rng), size, haze=sky, visibility=rng.uniform(90.0, 400.0))
    street = Street.random(rng)
    view.background(horizon_down=False, colour=sky, label=StreetClass.SKY)
    _draw_ground(view, rng, street)
    _draw_skyline(view, rng)
    for side in (-1, 1):
        _draw_buildings(view, rng, street, side)
    placed = _furniture(view, rng, street) + _traffic(view, rng, street)
    for _, draw in sorted(placed, key=lambda item: -item[0]):
        draw()
    if rng.random() < 0.35:
        view.foreground_arc(rng.uniform(0.04, 0.1), jitter(rng, (45, 45, 50), 15.0), IGNORE_INDEX)
    return view


def _draw_ground(view: View, rng: np.random.Generator, street: Street) -> None:
    view.background(horizon_down=True, colour=jitter(rng, (105, 115, 75), 15.0), label=StreetClass.TERRAIN)
    asphalt = jitter(rng, (95, 95, 98), 16.0)
    slabs = jitter(rng, (125, 120, 115), 18.0)
    for side in (-1, 1):
        edge = street.kerb(side)
        outer = edge + side * street.pavement
        view.ground_strip(min(edge, outer), max(edge, outer), NEAR, FAR, slabs, StreetClass.PAVEMENT)
        view.ground_strip(edge - 0.1, edge + 0.1, NEAR, FAR, shade(slabs, 1.2), None)
    view.ground_strip(street.left, street.right, NEAR, FAR, asphalt, StreetClass.ROAD)
    paint = jitter(rng, (205, 205, 200), 14.0)
    dash, gap = rng.uniform(2.0, 4.0), rng.uniform(2.5, 6.0)
    middle = (street.left + street.right) / 2
    for start in np.arange(rng.uniform(0.0, 3.0), 60.0, dash + gap).tolist():
        view.ground_strip(middle - 0.08, middle + 0.08, start, start + dash, paint, StreetClass.LANE_MARKING)
    if rng.random() < 0.6:
        for x in (street.left + 0.4, street.right - 0.4):
            view.ground_strip(x - 0.07, x + 0.07, NEAR, 60.0, paint, StreetClass.LANE_MARKING)
    if rng.random() < 0.3:
        start = rng.uniform(6.0, 20.0)
        for x in np.arange(street.left + 0.5, street.right - 0.5, 1.0).tolist():
            view.ground_strip(x, x + 0.5, start, start + 3.0, paint, StreetClass.LANE_MARKING)


def _draw_skyline(view: View, rng: np.random.Generator) -> None:
    for x in np.arange(-140.0, 140.0, 9.0).tolist():
        if rng.random() < 0.5:
            tone = jitter(rng, (130, 128, 125), 20.0)
            view.upright(x, x + rng.uniform(8.0, 14.0), 0.0, rng.uniform(4.0, 16.0), FAR, tone, StreetClass.BUILDING)
        else:
            radius = rng.uniform(4.0, 7.0)
            view.disc((x + 4.0, 1.0, FAR), 1.5 * radius, radius, jitter(rng, (75, 95, 60), 12.0), StreetClass.TREE)


def _draw_buildings(view: View, rng: np.random.Generator, street: Street, side: int) -> None:
    edge = street.kerb(side) + side * street.pavement
    rows = []
    near = rng.uniform(-5.0, 12.0)
    while near < FAR - 20.0:
        far = near + rng.uniform(8.0, 26.0)
        rows.append((edge + side * rng.uniform(0.0, 3.0), near, far))
        near = far + (rng.uniform(5.0, 22.0) if rng.random() < 0.3 else 0.0)
    for x, near, far in reversed(rows):
        draw_building(view, rng, side, x, near, far)


def _furniture(view: View, rng: np.random.Generator, street: Street) -> list[Placed]:
    """Places trees, lamp posts and signs along the pavements."""
    placed: list[Placed] = []
    for side in (-1, 1):
        kerb = street.kerb(side)
        for _ in range(int(rng.integers(0, 6))):
            x, z = kerb + side * (street.pavement - rng.uniform(0.3, 1.0)), rng.uniform(8.0, 80.0)
            placed.append((z, partial(draw_tree, view, rng, x, z)))
        spacing = rng.uniform(16.0, 32.0)
        for z in np.arange(rng.uniform(6.0, 20.0), 90.0, spacing).tolist():
            x = kerb + side * 0.4
            placed.append((z, partial(draw_lamp_post, view, rng, side, x, z)))
        for _ in range(int(rng.integers(1, 4))):
            x, z = kerb + side * rng.uniform(0.3, 0.9), rng.uniform(6.0, 35.0)
            placed.append((z, partial(draw_sign, view, rng, x, z)))
    return placed


def _traffic(view: View, rng: np.random.Generator, street: Street) -> list[Placed]:
    """Places cars in the lanes and at the kerbs, people on the pavements and now and then on the road."""
    placed: list[Placed] = []
    middle = (street.left + street.right) / 2
    for lane in ((street.left + middle) / 2, (street.right + middle) / 2):
        for z in np.arange(rng.uniform(7.0, 25.0), 90.0, rng.uniform(12.0, 40.0)).tolist():
            placed.append((z, partial(draw_car, view, rng, lane, z)))
    for side in (-1, 1):
        kerb = street.kerb(side)
        if rng.random() < 0.5:
            for z in np.arange(rng.uniform(5.0, 15.0), 70.0, rng.uniform(5.5, 12.0)).tolist():
                placed.append((z, partial(draw_car, view, rng, kerb - side * 1.1, z)))
        for _ in range(int(rng.integers(1, 7))):
            x, z = kerb + side * rng.uniform(0.4, street.pavement), rng.uniform(5.0, 45.0)
            placed.append((z, partial(draw_pedestrian, view, rng, x, z)))
    if rng.random() < 0.4:
        x, z = rng.uniform(street.left, street.right), rng.uniform(8.0, 30.0)
        placed.append((z, partial(draw_pedestrian, view, rng, x, z)))
    return placed
