"""Random colours: brightness, contrast, saturation and hue as one linear map of the bands."""

import math

import numpy as np

from .augmentation import ColourChange

#: From RGB to YIQ (FCC 1953): grey, and two axes of chroma, in which a hue is an angle.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def change_colours(image: np.ndarray, change: ColourChange, most: int = 255) -> np.ndarray:
    """Changes the colours of `image` [H, W, bands], uint8 or uint16; returns `image` itself if nothing changes.

    Brightness comes first, then contrast about the mean grey of the image, then saturation and hue, which stretch and
    turn the chroma and keep the grey. Values are clipped to 0..`most` once, at the end, so all four are one product per
    pixel. Other bands than three have no grey: contrast is about each band's own mean.

    Raises:
        ValueError: saturation or hue changes, and there are not three bands.
    """
    if change == ColourChange():
        return image
    bands = image.shape[2]
    if bands != 3:
        if (change.saturation, change.hue) != (1.0, 0.0):
            raise ValueError(f"saturation and hue need three bands, R, G and B, but the image has {bands}")
        gain = np.float32(change.brightness * change.contrast)
        offsets = change.brightness * (1.0 - change.contrast) * image.mean(axis=(0, 1))
        return _clipped(image * gain + offsets.astype(np.float32), image, most)
    chroma = _chroma_map(change.saturation, change.hue)
    gain = np.float32(change.brightness * change.contrast)
    mean_grey = float(_YIQ[0] @ image.reshape(-1, 3).mean(axis=0))
    # Chroma's map leaves greys alone, so the mean grey may be added after it.
    offset = np.float32(change.brightness * (1.0 - change.contrast) * mean_grey)
    changed = image.reshape(-1, 3).astype(np.float32) @ (gain * chroma.T) + offset
    return _clipped(changed, image, most)


def _clipped(changed: np.ndarray, image: np.ndarray, most: int) -> np.ndarray:
    """Returns `changed` float32 as whole numbers of 0 to `most`, of the shape and type of `image`."""
    return np.clip(np.rint(changed), 0.0, most).astype(image.dtype).reshape(image.shape)


def _chroma_map(saturation: float, hue: float) -> np.ndarray:
    """Matrix [3, 3] float32 from RGB to RGB of the same grey: the chroma times `saturation`, turned by `hue`."""
    angle = 2.0 * math.pi * hue
    cosine, sine = saturation * math.cos(angle), saturation * math.sin(angle)
    turned = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    return (np.linalg.inv(_YIQ) @ turned @ _YIQ).astype(np.float32)
