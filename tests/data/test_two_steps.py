"""From files in the official layouts to a trained step, and from a prediction back to files."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.data_trees import make_cityscapes, make_voc
from torch.utils.data import DataLoader

from ladderseg_fast import LadderLoss, create_model
from ladderseg_fast.data import (
    IMAGENET_NORMALISATION,
    RESULT_FORMATS,
    Augmentation,
    SegmentationTensors,
    TrainingBatches,
    check_pairs,
    open_data_set,
)

#: Height and width that the network sees.
CROP = (64, 96)


def link_real_voc(root: Path) -> Path:
    """The images at LADDERSEG_FAST_VOC as a VOC2012 directory whose splits are all of them."""
    if "LADDERSEG_FAST_VOC" not in os.environ:
        pytest.skip("LADDERSEG_FAST_VOC does not name VOC images")
    source = Path(os.environ["LADDERSEG_FAST_VOC"])
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).symlink_to(source / folder)
    stems = sorted(path.stem for path in (source / "SegmentationClass").glob("*.png"))[:8]
    for split in ("train", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(stems))
    return root


@pytest.mark.parametrize(
    ("kind", "make"),
    [("cityscapes", make_cityscapes), ("voc", make_voc), ("voc", link_real_voc)],
    ids=["cityscapes", "voc", "real voc"],
)
def test_trains_two_steps_and_exports(tmp_path, kind, make):
    root = make(tmp_path / "data")
    train, val = (open_data_set(kind, root, split) for split in ("train", "val"))
    check_pairs(train)
    check_pairs(val)
    # Images of all sizes: their own, scaled, and cropped or padded to one.
    augmentation = Augmentation(scale=(0.5, 2.0), brightness=0.2, hue=0.1)
    loader = DataLoader(
        SegmentationTensors(train, None, IMAGENET_NORMALISATION, CROP),
        batch_sampler=TrainingBatches(len(train), batch=2, steps=2, seed=0, augmentation=augmentation),
    )
    model = create_model("ladder_densenet121", len(train.label_set), memory="plain")
    loss_of, optimizer = LadderLoss(), torch.optim.Adam(model.parameters(), lr=5e-4)
    for images, labels, _ in loader:
        loss = loss_of(model(images), labels)
        assert math.isfinite(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    image, labels, _ = SegmentationTensors(val, CROP, IMAGENET_NORMALISATION)[0]
    prediction = model.predict(image[None])[0].numpy()
    path = tmp_path / RESULT_FORMATS[kind].path(val.name(0)).name
    RESULT_FORMATS[kind].image(prediction).save(path)
    written = np.asarray(Image.open(path))
    assert written.shape == labels.shape
    assert len(np.unique(written)) == len(np.unique(prediction))
