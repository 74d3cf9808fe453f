"""Random colours: brightness, contrast, saturation and hue as one linear map of RGB."""

import math

import numpy as np

from .augmentation import ColourChange

#: From RGB to YIQ (FCC 1953): grey, and two axes of chroma, in which a hue is an angle.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def change_colours(image: np.ndarray, change: ColourChange) -> np.ndarray:
    """Changes the colours of `image`, uint8 [H, W, 3]; returns `image` itself if nothing changes.

    Brightness comes first, then contrast about the mean grey of the image, then saturation and hue, which stretch and
    turn the chroma and keep the grey. Values are clipped to 0..255 once, at the end, so all four are one product per
    pixel.
    """
    if change == ColourChange():
        return image
    chroma = _chroma_map(change.saturation, change.hue)
    gain = np.float32(change.brightness * change.contrast)
    mean_grey = float(_YIQ[0] @ image.reshape(-1, 3).mean(axis=0))
    # Chroma's map leaves greys alone, so the mean grey may be added after it.
    offset = np.float32(change.brightness * (1.0 - change.contrast) * mean_grey)
    changed = image.reshape(-1, 3).astype(np.float32) @ (gain * chroma.T) + offset
    return np.clip(np.rint(changed), 0.0, 255.0).astype(np.uint8).reshape(image.shape)


def _chroma_map(saturation: float, hue: float) -> np.ndarray:
    """Matrix [3, 3] float32 from RGB to RGB of the same grey: the chroma times `saturation`, turned by `hue`."""
    angle = 2.0 * math.pi * hue
    cosine, sine = saturation * math.cos(angle), saturation * math.sin(angle)
    turned = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    return (np.linalg.inv(_YIQ) @ turned @ _YIQ).astype(np.float32)
