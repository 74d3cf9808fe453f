"""From samples to tensors: resizing, cropping, flipping, normalisation."""

import numpy as np
import pytest
import torch

from ladderseg_fast.data import (
    IGNORE_INDEX,
    IMAGENET_NORMALISATION,
    ColourChange,
    Draw,
    LabelSet,
    Sample,
    SegmentationDataset,
    SegmentationTensors,
    change_colours,
    crop_or_pad,
    resize_image,
    resize_labels,
)


class OneSample(SegmentationDataset):
    """An image whose red channel is its label, left half 0, right half 200."""

    label_set = LabelSet(("left", "right"), ((0, 0, 0), (255, 255, 255)))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        labels = np.zeros((8, 16), np.uint8)
        labels[:, 8:] = 200
        image = np.stack([labels, np.full_like(labels, 10), np.full_like(labels, 20)], axis=-1)
        return Sample("one", image, labels)

    def name(self, index: int) -> str:
        return "one"


def test_normalisation_is_per_channel():
    image = np.full((2, 3, 3), (255, 0, 51), np.uint8)
    tensor = IMAGENET_NORMALISATION(image)
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == torch.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(tensor[:, 1, 2], torch.tensor(expected))


def test_image_and_labels_have_the_size_asked_for():
    image, labels, index = SegmentationTensors(OneSample(), (20, 24), IMAGENET_NORMALISATION)[0]
    assert image.shape == (3, 20, 24)
    assert labels.shape == (20, 24)
    assert labels.dtype == torch.uint8
    assert index == 0


def test_labels_are_never_blended():
    labels = resize_labels(np.array([[0, IGNORE_INDEX], [IGNORE_INDEX, 0]], np.uint8), (7, 9))
    assert set(np.unique(labels)) == {0, IGNORE_INDEX}


def test_images_are_blended():
    image = resize_image(np.array([[[0] * 3, [200] * 3]], np.uint8), (1, 8))
    assert len(np.unique(image)) > 2


def test_image_and_labels_stay_aligned():
    tensors = SegmentationTensors(OneSample(), (16, 32), IMAGENET_NORMALISATION)
    for flip in (False, True):
        image, labels, _ = tensors[Draw(0, flip)]
        red = image[0] * 0.229 + 0.485
        assert torch.equal(red > 100 / 255, labels == 200)


def test_flip_exchanges_left_and_right():
    tensors = SegmentationTensors(OneSample(), (8, 16), IMAGENET_NORMALISATION)
    image, labels, _ = tensors[Draw(0, flip=False)]
    flipped_image, flipped_labels, _ = tensors[Draw(0, flip=True)]
    assert torch.equal(flipped_image, image.flip(2))
    assert torch.equal(flipped_labels, labels.flip(1))
    assert not torch.equal(flipped_labels, labels)


def test_scale_comes_before_the_crop():
    """At twice the size the boundary between the halves lies at column 16 of 32; the crop takes 8 in the middle."""
    tensors = SegmentationTensors(OneSample(), (8, 16), IMAGENET_NORMALISATION, crop=(6, 8))
    _, labels, _ = tensors[Draw(0, scale=2.0)]
    assert labels.shape == (6, 8)
    assert (labels[:, :4] == 0).all()
    assert (labels[:, 4:] == 200).all()


def test_without_a_size_images_keep_their_own():
    image, labels, _ = SegmentationTensors(OneSample(), None, IMAGENET_NORMALISATION)[0]
    assert image.shape == (3, 8, 16)
    assert labels.shape == (8, 16)
    image, labels, _ = SegmentationTensors(OneSample(), None, IMAGENET_NORMALISATION, crop=(10, 4))[0]
    assert image.shape == (3, 10, 4)
    assert labels.shape == (10, 4)


def test_without_a_crop_the_scaled_image_is_fitted_to_the_size():
    tensors = SegmentationTensors(OneSample(), (8, 16), IMAGENET_NORMALISATION)
    for scale in (0.5, 1.7):
        image, labels, _ = tensors[Draw(0, scale=scale)]
        assert image.shape == (3, 8, 16)
        assert (labels == IGNORE_INDEX).any() == (scale < 1.0)


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [((0.0, 0.0), (0, 3), (0, 4)), ((1.0, 1.0), (3, 6), (6, 10)), ((0.5, 1 / 3), (2, 5), (2, 6))],
)
def test_crop_lies_where_its_corner_says(corner, rows, columns):
    labels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    image = np.repeat(labels[..., None], 3, axis=2)
    part, part_labels = crop_or_pad(image, labels, (3, 4), corner)
    assert np.array_equal(part_labels, labels[slice(*rows), slice(*columns)])
    assert np.array_equal(part, image[slice(*rows), slice(*columns)])


def test_padding_is_the_mean_colour_and_ignored():
    """Higher than the image and less wide: padded above and below, and cropped at the sides."""
    labels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    image = np.stack([labels, labels + 100, np.full_like(labels, 7)], axis=-1)
    padded, padded_labels = crop_or_pad(image, labels, (10, 4), (0.25, 1.0))
    assert np.array_equal(padded_labels[1:7], labels[:, 6:])
    assert np.array_equal(padded[1:7], image[:, 6:])
    for outside in (np.s_[:1], np.s_[7:]):
        assert (padded_labels[outside] == IGNORE_INDEX).all()
        assert (padded[outside] == (30, 130, 7)).all()  # 29.5 rounds to even


def test_padding_at_the_sides():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = np.repeat(labels[..., None], 3, axis=2)
    padded, padded_labels = crop_or_pad(image, labels, (2, 9), (1.0, 0.4))
    assert np.array_equal(padded_labels[:, 2:6], labels[1:])
    assert np.array_equal(padded[:, 2:6], image[1:])
    assert (np.delete(padded_labels, np.s_[2:6], axis=1) == IGNORE_INDEX).all()


def test_colours_change_only_the_image():
    tensors = SegmentationTensors(OneSample(), (8, 16), IMAGENET_NORMALISATION)
    colour = ColourChange(brightness=0.5, saturation=0.7, hue=0.2)
    image, labels, _ = tensors[Draw(0, colour=colour)]
    sample = OneSample()[0]
    assert torch.equal(image, IMAGENET_NORMALISATION(change_colours(sample.image, colour)))
    assert not torch.equal(image, IMAGENET_NORMALISATION(sample.image))
    assert np.array_equal(labels, sample.labels)


@pytest.mark.parametrize("arguments", [{"size": (0, 8)}, {"size": None, "crop": (4, 0)}])
def test_sizes_are_checked(arguments):
    with pytest.raises(ValueError, match=r"(size|crop) must be at least 1x1, got"):
        SegmentationTensors(OneSample(), normalisation=IMAGENET_NORMALISATION, **arguments)


@pytest.mark.parametrize(
    ("names", "palette", "message"),
    [
        ((), (), "1 to 255 classes, got 0"),
        (("a", "b"), ((0, 0, 0),), "2 class names but 1 colours"),
        (("a",), ((0, 0, 256),), "three numbers from 0 to 255"),
    ],
)
def test_label_set_rejects(names, palette, message):
    with pytest.raises(ValueError, match=message):
        LabelSet(names, palette)
