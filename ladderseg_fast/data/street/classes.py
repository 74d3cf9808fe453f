"""Classes of the street scenes, in the colours that Cityscapes made common."""

from enum import IntEnum

from ..label_set import LabelSet


class StreetClass(IntEnum):
    """Values in the labels."""

    ROAD = 0
    LANE_MARKING = 1
    PAVEMENT = 2
    TERRAIN = 3
    BUILDING = 4
    TREE = 5
    SKY = 6
    POLE = 7
    SIGN = 8
    CAR = 9
    PEDESTRIAN = 10


_COLOURS = {
    StreetClass.ROAD: (128, 64, 128),
    StreetClass.LANE_MARKING: (255, 255, 255),
    StreetClass.PAVEMENT: (244, 35, 232),
    StreetClass.TERRAIN: (152, 251, 152),
    StreetClass.BUILDING: (70, 70, 70),
    StreetClass.TREE: (107, 142, 35),
    StreetClass.SKY: (70, 130, 180),
    StreetClass.POLE: (153, 153, 153),
    StreetClass.SIGN: (220, 220, 0),
    StreetClass.CAR: (0, 0, 142),
    StreetClass.PEDESTRIAN: (220, 20, 60),
}

STREET_LABELS = LabelSet(
    names=tuple(street_class.name.lower().replace("_", " ") for street_class in StreetClass),
    palette=tuple(_COLOURS[street_class] for street_class in StreetClass),
)
