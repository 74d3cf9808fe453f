"""Classes without a pixel. Most often the label values mean something else than the classes file says."""

from collections import Counter

import numpy as np

from .file_pairs import FilePairs
from .label_set import IGNORE_INDEX
from .sample import SegmentationDataset

#: Label images that are looked at before a training, at most: 200 of CamVid take a third of a second.
MOST = 200
#: Classes and ignored values that a warning names.
_NAMED = 5


def look_for_classes(samples: SegmentationDataset, most: int = MOST) -> str | None:
    """Reads at most `most` label images in random order until each class was seen; returns a warning if one was not.

    Drawn data sets have all their classes.

    Raises:
        OSError, ValueError: as access to `samples` does.
    """
    if not isinstance(samples, FilePairs) or not samples.labelled:
        return None
    pixels, ignored = np.zeros(IGNORE_INDEX + 1, np.int64), Counter[str]()
    order = np.random.default_rng(0).permutation(len(samples))[:most].tolist()
    for index in order:
        annotation = samples.annotation(index)
        classes = samples.classes(index, annotation)
        pixels += np.bincount(classes.ravel(), minlength=len(pixels))
        ignored += samples.pairs[index].values.ignored(annotation)
        if pixels[: len(samples.label_set)].all():
            return None
    return absent_classes_warning(samples, len(order), pixels, ignored)


def absent_classes_warning(samples: FilePairs, looked: int, pixels: np.ndarray, ignored: Counter[str]) -> str | None:
    """Says which classes the `looked` label images of `samples` lack, and what was ignored; None if they lack none.

    Args:
        pixels: [256], the number of pixels of each class and of IGNORE_INDEX.
        ignored: the number of pixels of each ignored value or colour.
    """
    names = samples.label_set.names
    absent = [f"{k} ({name!r})" for k, name in enumerate(names) if not pixels[k]]
    if not absent or not looked:
        return None
    what = "class" if len(absent) == 1 else "classes"
    where = f"the {looked} label images" + (f" looked at, of {len(samples)}" if looked < len(samples) else "")
    text = f"no pixel of {what} {_first(absent)} in {where}"
    if not ignored:
        return f"{text}; no pixel is ignored"
    shares = [f"{value} in {count / pixels.sum():.2%} of the pixels" for value, count in ignored.most_common()]
    text += f"; ignored: {_first(shares)}"
    if samples.classes_advice is not None:
        text += f"; if this stands for a class, {samples.classes_advice}"
    return text


def check_something_counts(samples: SegmentationDataset) -> None:
    """Reads label images in their order until a pixel has a class, which most often is the first.

    Raises:
        OSError, ValueError: as access to `samples` does. ValueError: every pixel of every image is ignored.
    """
    if not isinstance(samples, FilePairs) or not samples.labelled:
        return
    if any((samples.labels(index) != IGNORE_INDEX).any() for index in range(len(samples))):
        return
    many, first = len(samples) > 1, samples.files(0)[-1]
    what = f"all {len(samples)} label images, {first} and so on," if many else f"the only label image, {first},"
    raise ValueError(f"every pixel of {what} is ignored")


def _first(words: list[str]) -> str:
    more = [f"{len(words) - _NAMED} more"] if len(words) > _NAMED else []
    return ", ".join(words[:_NAMED] + more)
