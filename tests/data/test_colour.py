"""Changes of colour: what they change, and what they leave."""

import colorsys

import numpy as np
import pytest

from ladderseg_fast.data import ColourChange, change_colours

GREY = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def image():
    """Mild colours: no change of the tests reaches 0 or 255."""
    return np.random.default_rng(0).integers(90, 150, (12, 16, 3), dtype=np.uint8)


def grey_of(image):
    return image @ GREY


def test_no_change_is_the_same_array(image):
    assert change_colours(image, ColourChange()) is image


def test_brightness_is_a_factor(image):
    changed = change_colours(image, ColourChange(brightness=1.5))
    assert changed.dtype == np.uint8
    assert np.abs(changed - 1.5 * image).max() <= 0.51


def test_contrast_is_the_distance_from_the_mean_grey(image):
    changed = change_colours(image, ColourChange(contrast=0.5))
    mean = grey_of(image).mean()
    assert np.abs(changed - (mean + 0.5 * (image - mean))).max() <= 0.51
    assert (change_colours(image, ColourChange(contrast=0.0)) == round(mean)).all()


def test_saturation_is_the_distance_from_each_grey(image):
    changed = change_colours(image, ColourChange(saturation=1.5))
    grey = grey_of(image)[..., None]
    assert np.abs(changed - (grey + 1.5 * (image - grey))).max() <= 0.7
    colourless = change_colours(image, ColourChange(saturation=0.0))
    assert (colourless.max(axis=-1) - colourless.min(axis=-1)).max() <= 1


def test_brightness_comes_before_contrast(image):
    both = change_colours(image, ColourChange(brightness=0.8, contrast=1.4))
    one_by_one = change_colours(change_colours(image, ColourChange(brightness=0.8)), ColourChange(contrast=1.4))
    assert np.abs(both.astype(int) - one_by_one).max() <= 2


@pytest.mark.parametrize("hue", [-0.3, 0.1, 0.5])
def test_hue_leaves_grey_and_strength_of_colour(image, hue):
    changed = change_colours(image, ColourChange(hue=hue))
    assert np.abs(grey_of(changed) - grey_of(image)).max() < 1.0
    assert np.abs(changed.astype(int) - image).max() > 10
    back = change_colours(changed, ColourChange(hue=-hue))
    assert np.abs(back.astype(int) - image).max() <= 2


def test_a_third_of_a_turn_takes_red_towards_green_or_blue():
    """The angle is one of YIQ's plane; so hues turn by about, not exactly, as many degrees of the colour wheel."""
    red = np.full((2, 2, 3), (150, 100, 100), np.uint8)
    hues = [colorsys.rgb_to_hsv(*change_colours(red, ColourChange(hue=h))[0, 0] / 255.0)[0] for h in (1 / 3, -1 / 3)]
    assert sorted(hues) == pytest.approx([1 / 3, 2 / 3], abs=0.08)


def test_values_are_cut_off():
    image = np.full((4, 4, 3), (250, 5, 128), np.uint8)
    assert (change_colours(image, ColourChange(brightness=2.0)) == (255, 10, 255)).all()
    extreme = change_colours(image, ColourChange(saturation=2.0))
    assert (extreme[..., 0] == 255).all()
    assert (extreme[..., 1] == 0).all()
