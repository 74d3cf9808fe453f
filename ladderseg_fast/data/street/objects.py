"""Things that stand in a street, each drawn at its place by one function."""

import numpy as np

from .classes import StreetClass
from .view import Colour, View


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """Makes `colour` brighter or darker as a whole, and each channel a little different."""
    offset = rng.normal(0.0, amount) + rng.normal(0.0, amount / 3, 3)
    return tuple((np.asarray(colour) + offset).tolist())


def shade(colour: Colour, factor: float) -> Colour:
    """Multiplies `colour` by `factor`."""
    red, green, blue = colour
    return factor * red, factor * green, factor * blue


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


# Many are as grey as the road or as blue as the sky, so that a colour alone does not tell the class.
_FACADES = (
    (150, 80, 65),
    (200, 180, 150),
    (125, 125, 128),
    (170, 185, 200),
    (95, 92, 90),
    (215, 212, 205),
    (160, 165, 120),
)
_CARS = (
    (190, 30, 30),
    (25, 25, 30),
    (225, 225, 228),
    (120, 122, 125),
    (40, 60, 130),
    (60, 95, 60),
    (200, 170, 60),
    (150, 170, 190),
)
_CLOTHES = ((30, 30, 40), (180, 40, 50), (60, 80, 140), (200, 200, 195), (110, 110, 112), (90, 130, 70), (220, 170, 60))
_SKINS = ((225, 185, 155), (150, 105, 80), (95, 65, 50))
_SIGNS = ((200, 30, 40), (30, 70, 170), (235, 200, 40), (235, 235, 235), (30, 120, 70))


def draw_building(view: View, rng: np.random.Generator, side: int, x: float, near: float, far: float) -> None:
    """Draws a house whose facade stands along the street at X = `x`; `side` is -1 left, 1 right of the camera."""
    height = rng.uniform(6.0, 24.0)
    wall = jitter(rng, _pick(rng, _FACADES), 12.0)
    facade = [(x, 0.0, near), (x, 0.0, far), (x, height, far), (x, height, near)]
    front = [(x, 0.0, near), (x + 14.0 * side, 0.0, near), (x + 14.0 * side, height, near), (x, height, near)]
    view.polygon(front, shade(wall, rng.uniform(0.6, 0.95)), StreetClass.BUILDING)
    view.polygon(facade, wall, StreetClass.BUILDING)
    glass = jitter(rng, (70, 85, 100), 25.0)
    floor, bay = rng.uniform(2.8, 3.6), rng.uniform(2.0, 4.0)
    tall, wide = floor * rng.uniform(0.4, 0.75), bay * rng.uniform(0.35, 0.8)
    for low in np.arange(0.9, height - tall, floor).tolist():
        for start in np.arange(near + 0.5, far - wide, bay).tolist():
            pane = shade(glass, rng.uniform(0.6, 1.5))
            corners = [(x, low, start), (x, low, start + wide), (x, low + tall, start + wide), (x, low + tall, start)]
            view.polygon(corners, pane, None)


def draw_tree(view: View, rng: np.random.Generator, x: float, z: float) -> None:
    """Draws a trunk and a crown of overlapping discs."""
    trunk = rng.uniform(1.8, 3.2)
    radius = rng.uniform(1.2, 2.6)
    width = rng.uniform(0.12, 0.25)
    view.upright(x - width, x + width, 0.0, trunk + radius, z, jitter(rng, (85, 65, 48), 10.0), StreetClass.TREE)
    leaves = jitter(rng, (70, 100, 45), 14.0) if rng.random() < 0.8 else jitter(rng, (160, 110, 50), 14.0)
    for _ in range(28):
        angle, reach = rng.uniform(0.0, 2 * np.pi), radius * np.sqrt(rng.random()) * 0.75
        centre = (x + reach * np.cos(angle), trunk + radius + 1.1 * reach * np.sin(angle), z)
        size = radius * rng.uniform(0.25, 0.5)
        view.disc(centre, size, size, jitter(rng, leaves, 13.0), StreetClass.TREE)


def draw_car(view: View, rng: np.random.Generator, x: float, z: float) -> None:
    """Draws a car from behind or ahead: its end face, and the side that is turned to the camera."""
    width, length = rng.uniform(1.6, 2.0), rng.uniform(3.6, 4.8)
    belt, roof = rng.uniform(0.85, 1.05), rng.uniform(1.4, 2.1)
    paint = jitter(rng, _pick(rng, _CARS), 10.0)
    left, right = x - width / 2, x + width / 2
    view.polygon(
        [
            (left - 0.2, 0, z - 0.3),
            (right + 0.2, 0, z - 0.3),
            (right + 0.2, 0, z + length),
            (left - 0.2, 0, z + length),
        ],
        (35, 35, 38),
        None,
    )
    side = left if x > 0 else right
    inner = side + (0.15 if x > 0 else -0.15)
    end = z + length
    body = [
        (side, 0.25, z),
        (side, 0.25, end),
        (side, belt, end),
        (inner, roof, end - 0.9),
        (inner, roof, z + 0.4),
        (side, belt, z),
    ]
    view.polygon(body, shade(paint, 0.75), StreetClass.CAR)
    panes = [
        (side, belt, z + 0.3),
        (side, belt, end - 0.8),
        (inner, roof - 0.1, end - 1.2),
        (inner, roof - 0.1, z + 0.6),
    ]
    view.polygon(panes, (45, 52, 60), None)
    for axle in (z + 0.7, end - 0.8):
        wheel = [(side, 0.0, axle - 0.3), (side, 0.0, axle + 0.3), (side, 0.6, axle + 0.3), (side, 0.6, axle - 0.3)]
        view.polygon(wheel, (22, 22, 24), StreetClass.CAR)
    for tyre in (left + 0.15, right - 0.15):
        view.upright(tyre - 0.12, tyre + 0.12, 0.0, 0.35, z, (22, 22, 24), StreetClass.CAR)
    view.upright(left, right, 0.25, belt, z, paint, StreetClass.CAR)
    cabin = [(left, belt, z), (right, belt, z), (right - 0.2, roof, z), (left + 0.2, roof, z)]
    view.polygon(cabin, shade(paint, 0.9), StreetClass.CAR)
    window = [
        (left + 0.15, belt, z),
        (right - 0.15, belt, z),
        (right - 0.3, roof - 0.12, z),
        (left + 0.3, roof - 0.12, z),
    ]
    view.polygon(window, jitter(rng, (60, 70, 80), 15.0), None)
    lamp = (190, 30, 30) if rng.random() < 0.6 else (240, 240, 215)
    for lamp_x in (left + 0.2, right - 0.2):
        view.upright(lamp_x - 0.15, lamp_x + 0.15, belt - 0.3, belt - 0.15, z, lamp, None)


def draw_pedestrian(view: View, rng: np.random.Generator, x: float, z: float) -> None:
    """Draws a person, standing or walking."""
    height = rng.uniform(1.4, 1.95)
    stride = rng.uniform(0.05, 0.3)
    person = StreetClass.PEDESTRIAN
    trousers = jitter(rng, _pick(rng, _CLOTHES), 10.0)
    jacket = jitter(rng, _pick(rng, _CLOTHES), 10.0)
    hip, neck = 0.48 * height, 0.84 * height
    for foot in (-stride, stride):
        leg = [(x - 0.14, hip, z), (x + 0.14, hip, z), (x + foot + 0.09, 0.0, z), (x + foot - 0.09, 0.0, z)]
        view.polygon(leg, trousers, person)
    torso = [
        (x - 0.17, hip - 0.05, z),
        (x + 0.17, hip - 0.05, z),
        (x + 0.25, neck - 0.06, z),
        (x - 0.25, neck - 0.06, z),
    ]
    view.polygon(torso, jacket, person)
    for arm in (-0.27, 0.27):
        view.upright(x + arm - 0.06, x + arm + 0.06, hip, neck - 0.05, z, shade(jacket, 0.85), person)
    view.disc((x, neck + 0.08 * height, z), 0.11, 0.14, _pick(rng, _SKINS), person)


def draw_lamp_post(view: View, rng: np.random.Generator, side: int, x: float, z: float) -> None:
    """Draws a pole with an arm that reaches over the road."""
    height, radius = rng.uniform(5.0, 8.0), rng.uniform(0.06, 0.11)
    metal = jitter(rng, (110, 112, 112), 22.0)
    view.upright(x - radius, x + radius, 0.0, height, z, metal, StreetClass.POLE)
    reach = x - side * rng.uniform(0.8, 1.8)
    view.upright(min(x, reach), max(x, reach), height - 0.15, height, z, metal, StreetClass.POLE)


def draw_sign(view: View, rng: np.random.Generator, x: float, z: float) -> None:
    """Draws a traffic sign on its pole: a disc, a triangle or a board."""
    height, size = rng.uniform(2.2, 3.2), rng.uniform(0.3, 0.5)
    view.upright(x - 0.05, x + 0.05, 0.0, height, z, jitter(rng, (125, 125, 125), 18.0), StreetClass.POLE)
    face = jitter(rng, _pick(rng, _SIGNS), 10.0)
    inside = shade(face, 0.5) if sum(face) > 450 else (235, 235, 235)
    shape = int(rng.integers(3))
    if shape == 0:
        view.disc((x, height, z), size, size, face, StreetClass.SIGN)
        view.disc((x, height, z), 0.65 * size, 0.65 * size, inside, None)
    elif shape == 1:
        for scale, colour, label in ((1.0, face, StreetClass.SIGN), (0.55, inside, None)):
            r = scale * size
            corners = [(x - r, height - 0.8 * r, z), (x + r, height - 0.8 * r, z), (x, height + r, z)]
            view.polygon(corners, colour, label)
    else:
        view.upright(x - size, x + size, height - size, height + size, z, face, StreetClass.SIGN)
        view.upright(x - 0.7 * size, x + 0.7 * size, height - 0.3 * size, height + 0.3 * size, z, inside, None)
