"""Cityscapes' labels: ids, classes, categories, colours, and whether they count.

The facts are those of the public definition, `cityscapesscripts.helpers.labels`.
"""

from typing import NamedTuple

from .label_set import IGNORE_INDEX, LabelSet

#: Train id of the licence plate. Its id is negative as well, so no 8-bit label image contains it.
_NO_ID = -1

#: Categories by their id.
CITYSCAPES_CATEGORIES = ("void", "flat", "construction", "object", "nature", "sky", "human", "vehicle")


class CityscapesLabel(NamedTuple):
    """One label of the annotation."""

    name: str
    id: int
    """Value in *_labelIds.png, and in the results that the benchmark's server takes."""
    train_id: int
    """Class 0 to 18; IGNORE_INDEX where it is not trained; -1 for the licence plate."""
    category: str
    has_instances: bool
    """Whether it is annotated thing by thing, in *_instanceIds.png."""
    colour: tuple[int, int, int]

    @property
    def category_id(self) -> int:
        """Index of `category` in CITYSCAPES_CATEGORIES."""
        return CITYSCAPES_CATEGORIES.index(self.category)

    @property
    def ignore_in_eval(self) -> bool:
        """Whether its pixels count neither for nor against a prediction, as those of all untrained labels."""
        return not 0 <= self.train_id < IGNORE_INDEX


_UNTRAINED = IGNORE_INDEX

#: All 34 labels in the order of their ids, and the licence plate.
CITYSCAPES_LABELS = (
    CityscapesLabel("unlabeled", 0, _UNTRAINED, "void", False, (0, 0, 0)),
    CityscapesLabel("ego vehicle", 1, _UNTRAINED, "void", False, (0, 0, 0)),
    CityscapesLabel("rectification border", 2, _UNTRAINED, "void", False, (0, 0, 0)),
    CityscapesLabel("out of roi", 3, _UNTRAINED, "void", False, (0, 0, 0)),
    CityscapesLabel("static", 4, _UNTRAINED, "void", False, (0, 0, 0)),
    CityscapesLabel("dynamic", 5, _UNTRAINED, "void", False, (111, 74, 0)),
    CityscapesLabel("ground", 6, _UNTRAINED, "void", False, (81, 0, 81)),
    CityscapesLabel("road", 7, 0, "flat", False, (128, 64, 128)),
    CityscapesLabel("sidewalk", 8, 1, "flat", False, (244, 35, 232)),
    CityscapesLabel("parking", 9, _UNTRAINED, "flat", False, (250, 170, 160)),
    CityscapesLabel("rail track", 10, _UNTRAINED, "flat", False, (230, 150, 140)),
    CityscapesLabel("building", 11, 2, "construction", False, (70, 70, 70)),
    CityscapesLabel("wall", 12, 3, "construction", False, (102, 102, 156)),
    CityscapesLabel("fence", 13, 4, "construction", False, (190, 153, 153)),
    CityscapesLabel("guard rail", 14, _UNTRAINED, "construction", False, (180, 165, 180)),
    CityscapesLabel("bridge", 15, _UNTRAINED, "construction", False, (150, 100, 100)),
    CityscapesLabel("tunnel", 16, _UNTRAINED, "construction", False, (150, 120, 90)),
    CityscapesLabel("pole", 17, 5, "object", False, (153, 153, 153)),
    CityscapesLabel("polegroup", 18, _UNTRAINED, "object", False, (153, 153, 153)),
    CityscapesLabel("traffic light", 19, 6, "object", False, (250, 170, 30)),
    CityscapesLabel("traffic sign", 20, 7, "object", False, (220, 220, 0)),
    CityscapesLabel("vegetation", 21, 8, "nature", False, (107, 142, 35)),
    CityscapesLabel("terrain", 22, 9, "nature", False, (152, 251, 152)),
    CityscapesLabel("sky", 23, 10, "sky", False, (70, 130, 180)),
    CityscapesLabel("person", 24, 11, "human", True, (220, 20, 60)),
    CityscapesLabel("rider", 25, 12, "human", True, (255, 0, 0)),
    CityscapesLabel("car", 26, 13, "vehicle", True, (0, 0, 142)),
    CityscapesLabel("truck", 27, 14, "vehicle", True, (0, 0, 70)),
    CityscapesLabel("bus", 28, 15, "vehicle", True, (0, 60, 100)),
    CityscapesLabel("caravan", 29, _UNTRAINED, "vehicle", True, (0, 0, 90)),
    CityscapesLabel("trailer", 30, _UNTRAINED, "vehicle", True, (0, 0, 110)),
    CityscapesLabel("train", 31, 16, "vehicle", True, (0, 80, 100)),
    CityscapesLabel("motorcycle", 32, 17, "vehicle", True, (0, 0, 230)),
    CityscapesLabel("bicycle", 33, 18, "vehicle", True, (119, 11, 32)),
    CityscapesLabel("license plate", -1, _NO_ID, "vehicle", False, (0, 0, 142)),
)

#: The labels that are trained, in the order of their train ids.
CITYSCAPES_TRAINED = tuple(label for label in CITYSCAPES_LABELS if not label.ignore_in_eval)

#: The nineteen classes of the benchmark.
CITYSCAPES_LABEL_SET = LabelSet(
    names=tuple(label.name for label in CITYSCAPES_TRAINED), palette=tuple(label.colour for label in CITYSCAPES_TRAINED)
)
