"""Street scenes as a data set."""

import numpy as np

from ..data_set_kind import DataSetKind
from ..sample import Sample, SegmentationDataset
from .appearance import render
from .classes import STREET_LABELS
from .scene import draw_scene

#: Number of images and seed of each split: no street is in both.
_SPLITS = {"train": (256, 0), "val": (16, 1)}
_SIZE = (256, 512)


class StreetScenes(SegmentationDataset):
    """Draws `count` random streets at `size` (height, width), each on access.

    A scene depends on `seed` and its index only; at another size it is the same street with other texture. Some scenes
    show the bonnet of a car at the bottom edge, which has no class.

    Raises:
        ValueError: `count` is below 1, `seed` is negative, or a side of `size` is below 16.
        IndexError: on access, an index out of range.
    """

    label_set = STREET_LABELS

    def __init__(self, count: int, size: tuple[int, int], seed: int = 0) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if min(size) < 16:
            raise ValueError(f"size must be at least 16x16, got {size[0]}x{size[1]}")
        self.count = count
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"index must be 0 to {self.count - 1}, got {index}")
        layout, texture = (np.random.default_rng((self.seed, index, part)) for part in (0, 1))
        view = draw_scene(layout, self.size)
        labels = np.array(view.labels)
        image = render(np.asarray(view.colour), labels, texture)
        return Sample(self.name(index), image, labels)

    def name(self, index: int) -> str:
        return f"street_{self.seed}_{index:04d}"


def _split(split: str, size: tuple[int, int] = _SIZE, count: int | None = None) -> StreetScenes:
    if split not in _SPLITS:
        raise ValueError(f"the street scenes have the splits {', '.join(_SPLITS)}, not {split!r}")
    default_count, seed = _SPLITS[split]
    return StreetScenes(default_count if count is None else count, size, seed)


STREET = DataSetKind(
    "street",
    _split,
    splits=tuple(_SPLITS),
    label_set=STREET_LABELS,
    default_size=_SIZE,
    drawn=True,
    python_options=("size", "count"),
)
