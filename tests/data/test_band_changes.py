"""Steps of other bands than RGB of 8 bits on the way to the network, and to the eye."""

import numpy as np
import pytest
import torch

from ladderseg_fast.data import (
    IGNORE_INDEX,
    ColourChange,
    Draw,
    ImageForm,
    LabelSet,
    Normalisation,
    Sample,
    SegmentationDataset,
    SegmentationTensors,
    change_colours,
    crop_or_pad,
    displayed,
    resize_image,
)

FORM = ImageForm(5, 12)
NORMALISATION = Normalisation((0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 0.4, 0.3, 0.2, 0.1), FORM.bits)


def noise(size: tuple[int, int] = (12, 16), bands: int = 5, most: int = 4095) -> np.ndarray:
    return np.random.default_rng(0).integers(0, most, (*size, bands), np.uint16, endpoint=True)


class OneImage(SegmentationDataset):
    """Noise of five bands of 12 bits; labels are a band of it."""

    label_set = LabelSet(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    form = FORM

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        image = noise()
        return Sample("one", image, (image[..., 0] > 2000).astype(np.uint8))

    def name(self, index: int) -> str:
        return "one"


def test_normalisation_is_a_share_of_the_greatest_value():
    image = noise()
    tensor = NORMALISATION(image)
    assert (tensor.dtype, tensor.shape) == (torch.float32, (5, 12, 16))
    expected = (image / 4095 - np.array(NORMALISATION.mean)) / np.array(NORMALISATION.std)
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("image", [noise(bands=1), noise(bands=4), noise().astype(np.uint8), noise()[..., 0]])
def test_normalisation_refuses_other_images(image):
    """One band would otherwise become five."""
    with pytest.raises(ValueError, match=r"expected an array \[H, W, 5\] uint16, got"):
        NORMALISATION(image)


@pytest.mark.parametrize(
    ("mean", "std", "bits", "message"),
    [
        ((0.1,), (0.1, 0.2), 8, "a number for each band, got 1 and 2"),
        ((), (), 8, "bands must be 1 to 32, got 0"),
        ((0.1,), (0.0,), 8, "std finite and positive"),
        ((float("nan"),), (0.1,), 8, "mean must be finite"),
        ((0.1,), (0.1,), 7, "bits must be 8 to 16, got 7"),
    ],
)
def test_normalisation_out_of_range(mean, std, bits, message):
    with pytest.raises(ValueError, match=message):
        Normalisation(mean, std, bits)


@pytest.mark.parametrize("size", [(24, 40), (5, 7)])
def test_bands_are_resized_as_pillow_resizes_grey(size):
    """To half a step of 8 bits; and 16 bits lose nothing of their range."""
    image = noise(bands=4, most=255)
    resized = resize_image(image, size)
    assert (resized.dtype, resized.shape) == (np.uint16, (*size, 4))
    for band in range(4):
        grey = np.repeat(image[..., band : band + 1], 3, 2).astype(np.uint8)
        difference = resized[..., band].astype(int) - resize_image(grey, size)[..., 0]
        assert np.abs(difference).max() <= 1
        assert abs(difference.mean()) < 0.2, "rounded, not cut off"
    assert np.array_equal(
        resize_image(image.astype(np.uint8), size)[..., :3], resize_image(image[..., :3].astype(np.uint8), size)
    )
    assert (resize_image(np.full((12, 16, 1), 65535, np.uint16), size) == 65535).all()


def test_padding_is_the_mean_of_each_band():
    image, labels = noise(), np.zeros((12, 16), np.uint8)
    padded, padded_labels = crop_or_pad(image, labels, (20, 16), (0.0, 0.0))
    assert padded.dtype == np.uint16
    assert np.array_equal(padded[12, 0], np.rint(image.mean(axis=(0, 1))))
    assert (padded_labels[12:] == IGNORE_INDEX).all()


def test_brightness_and_contrast_of_each_band():
    image = 1000 + noise(most=1000)
    changed = change_colours(image, ColourChange(brightness=1.2, contrast=0.5), 4095)
    mean = image.mean(axis=(0, 1))
    assert changed.dtype == np.uint16
    assert np.abs(changed - 1.2 * (mean + 0.5 * (image - mean))).max() <= 0.51
    assert change_colours(image, ColourChange(brightness=2.0), 3000).max() == 3000
    for change in (ColourChange(saturation=0.5), ColourChange(hue=0.1)):
        with pytest.raises(ValueError, match="saturation and hue need three bands, R, G and B, but the image has 5"):
            change_colours(image, change, 4095)


def test_three_bands_of_16_bits_change_as_those_of_8_do():
    image = noise(bands=3, most=100) + 50
    change = ColourChange(1.1, 0.9, 0.8, 0.1)
    wide = change_colours((image * 257).astype(np.uint16), change, 65535)
    assert np.abs(wide / 257 - change_colours(image.astype(np.uint8), change)).max() <= 0.51


def test_tensors():
    tensors = SegmentationTensors(OneImage(), (12, 16), NORMALISATION, (12, 16))
    plain, labels, _ = tensors[0]
    assert torch.equal(plain, NORMALISATION(noise()))
    image, turned, _ = tensors[Draw(0, flip=True, scale=1.3, colour=ColourChange(brightness=0.9))]
    assert image.shape == plain.shape
    assert turned.shape == labels.shape


def test_displayed():
    """RGB is shown as it is, 16 bits without their tails, one or two bands in grey."""
    rgb = noise(bands=3, most=255).astype(np.uint8)
    assert displayed(rgb) is rgb or np.shares_memory(displayed(rgb), rgb)
    four = noise(bands=4, most=255).astype(np.uint8)
    assert np.array_equal(displayed(four), four[..., :3])
    grey = displayed(four[..., :2])
    assert grey.shape == (12, 16, 3)
    assert (grey == four[..., :1]).all()
    ramp = np.arange(10_000, dtype=np.uint16).reshape(100, 100, 1) + 3000
    shown = displayed(ramp)[..., 0].astype(int)
    assert (shown.min(), shown.max()) == (0, 255)
    expected = np.clip((ramp[..., 0] - 3000 - 199.98) * 255 / 9599.04, 0, 255)
    assert np.abs(shown - expected).max() <= 0.51
    assert (displayed(np.full((4, 4, 1), 9, np.uint16)) == 127).all()
