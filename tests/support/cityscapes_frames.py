"""Small frames as Cityscapes annotates them, with predictions that are partly right."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ladderseg_fast.data import CITYSCAPES_LABELS

HEIGHT, WIDTH = 48, 80
#: Labels that a frame's ground and its things are painted with: some that do not count among them.
STUFF = (0, 3, 6, 7, 8, 9, 11, 13, 17, 20, 21, 22, 23)
THINGS = (24, 25, 26, 27, 28, 29, 30, 32, 33)


class Frame(NamedTuple):
    """One annotated frame and a prediction."""

    name: str
    label_ids: np.ndarray
    """[H, W] uint8."""
    instance_ids: np.ndarray
    """[H, W] uint16."""
    prediction: np.ndarray
    """[H, W] uint8: classes."""


def make_frames(count: int) -> list[Frame]:
    """The same frames every time: numpy guarantees RandomState's stream."""
    rng = np.random.RandomState(2017)
    return [_frame(f"aachen_{i:06}_000019", rng) for i in range(count)]


def write_tree(root: Path, split: str, frames: list[Frame]) -> Path:
    """The frames in the layout of Cityscapes, with noise for images."""
    rng = np.random.RandomState(1)
    for frame in frames:
        city = frame.name.split("_")[0]
        images, truth = (root / kind / split / city for kind in ("leftImg8bit", "gtFine"))
        for folder in (images, truth):
            folder.mkdir(parents=True, exist_ok=True)
        image = rng.randint(0, 256, (*frame.label_ids.shape, 3)).astype(np.uint8)
        Image.fromarray(image).save(images / f"{frame.name}_leftImg8bit.png")
        Image.fromarray(frame.label_ids).save(truth / f"{frame.name}_gtFine_labelIds.png")
        Image.fromarray(frame.instance_ids).save(truth / f"{frame.name}_gtFine_instanceIds.png")
    return root


def to_classes(label_ids: np.ndarray) -> np.ndarray:
    """Classes [H, W] uint8, 255 where none."""
    table = np.full(256, 255, np.uint8)
    for label in CITYSCAPES_LABELS:
        if 0 <= label.train_id < 19:
            table[label.id] = label.train_id
    return table[label_ids]


def _frame(name: str, rng: np.random.RandomState) -> Frame:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    instances = np.zeros((HEIGHT, WIDTH), np.uint16)
    for _ in range(14):
        box, label = _box(rng, 30), STUFF[rng.randint(len(STUFF))]
        labels[box] = instances[box] = label
    for number in range(16):
        box, label = _box(rng, 14), THINGS[rng.randint(len(THINGS))]
        labels[box] = label
        # every fourth is a group, which the annotators did not take apart
        instances[box] = label if number % 4 == 3 else 1000 * label + number
    # some pixels are taken for another class: at random, and in whole patches
    truth = to_classes(labels)
    prediction = np.where(truth == 255, rng.randint(0, 19, truth.shape), truth).astype(np.uint8)
    wrong = rng.random_sample(truth.shape) < 0.2
    prediction[wrong] = rng.randint(0, 19, int(wrong.sum()))
    for _ in range(6):
        prediction[_box(rng, 16)] = rng.randint(0, 19)
    return Frame(name, labels, instances, prediction)


def _box(rng: np.random.RandomState, largest: int) -> tuple[slice, slice]:
    y, x = rng.randint(0, HEIGHT), rng.randint(0, WIDTH)
    return slice(y, y + rng.randint(1, largest)), slice(x, x + rng.randint(1, largest))
