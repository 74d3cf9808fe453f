"""Pictures of truth and prediction side by side, with image and errors as in the paper's Figure 4, over the class
colours.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...data import IGNORE_INDEX, LabelSet, displayed, image_from_array, resize_image
from ..legend import legend, present_classes
from ..overlay import overlay

#: Panels are no wider than this; wider images are shrunk.
_PANEL_WIDTH = 1024
_GAP, _HEADER, _MARGIN = 6, 30, 4
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
#: Wrong pixels are red, over the image in grey; pixels that do not count are dark.
_WRONG, _GREY_SHARE = (225, 25, 45), 0.45


def comparison(
    image: np.ndarray, labels: np.ndarray, prediction: np.ndarray, label_set: LabelSet, title: str
) -> Image.Image:
    """One picture of `image` [H, W, bands] and its `labels` and `prediction` [H, W] uint8, with `title` above.

    From left to right it shows the image, the true classes over it, the predicted classes over it, and the errors: the
    image in grey, red where the prediction is wrong, and dark where the labels ignore it. Below are the colours of the
    classes that occur.
    """
    image = displayed(image)
    panels = {
        "image": image,
        "truth": _truth(image, labels, label_set),
        "prediction": overlay(image, prediction, label_set),
        "errors": error_map(image, labels, prediction),
    }
    return _with_legend(_side_by_side(panels, title), label_set, labels, prediction)


def truth_and_prediction(
    image: np.ndarray, labels: np.ndarray, prediction: np.ndarray, label_set: LabelSet, title: str
) -> Image.Image:
    """Picture like `comparison`, with the truth and prediction panels only."""
    image = displayed(image)
    panels = {"truth": _truth(image, labels, label_set), "prediction": overlay(image, prediction, label_set)}
    return _with_legend(_side_by_side(panels, title), label_set, labels, prediction)


def error_map(image: np.ndarray, labels: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Errors as [H, W, 3] uint8: grey where the prediction is right, red where it is wrong, dark where labels are
    ignored.
    """
    grey = image.mean(2, keepdims=True)
    picture = np.repeat(255 * (1 - _GREY_SHARE) + _GREY_SHARE * grey, 3, axis=2)
    picture[prediction != labels] = _WRONG
    ignored = labels == IGNORE_INDEX
    picture[ignored] = np.broadcast_to(grey / 4, picture.shape)[ignored]
    return np.round(picture).astype(np.uint8)


def _shrunk(panel: np.ndarray) -> np.ndarray:
    height, width = panel.shape[:2]
    if width <= _PANEL_WIDTH:
        return panel
    return resize_image(panel, (max(1, round(height * _PANEL_WIDTH / width)), _PANEL_WIDTH))


def _truth(image: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Colours of the true classes over `image`, which is dark where labels are ignored."""
    return np.where((labels == IGNORE_INDEX)[..., None], image // 4, overlay(image, labels, label_set))


def _with_legend(picture: Image.Image, label_set: LabelSet, *labels: np.ndarray) -> Image.Image:
    """`picture` with the colours of the classes in `labels` below it."""
    below = legend(label_set, present_classes(*labels), picture.width)
    whole = Image.new("RGB", (max(picture.width, below.width), picture.height + below.height), _PAPER)
    whole.paste(picture, (0, 0))
    whole.paste(below, (0, picture.height))
    return whole


def _side_by_side(panels: Mapping[str, np.ndarray], title: str) -> Image.Image:
    """Panels of one size in a row, with their captions, below the title; shrunk if they are wide."""
    captions, pictures = list(panels), [_shrunk(panel) for panel in panels.values()]
    height, width = pictures[0].shape[:2]
    picture = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, 2 * _HEADER + height), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _HEADER / 2), title, fill=_INK, font=ImageFont.load_default(18), anchor="lm")
    for i, (panel, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = i * (width + _GAP)
        draw.text((left + _MARGIN, 1.5 * _HEADER), caption, fill=_INK, font=ImageFont.load_default(15), anchor="lm")
        picture.paste(image_from_array(panel), (left, 2 * _HEADER))
    return picture
