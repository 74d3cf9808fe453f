"""Look of a photograph for flat colours: texture, clouds, shadows, light and sensor noise."""

import numpy as np
from PIL import Image

from .classes import StreetClass

#: Strength of coarse, middle and fine texture per class, as standard deviations of the brightness.
_TEXTURE = {
    StreetClass.ROAD: (0.08, 0.05, 0.06),
    StreetClass.LANE_MARKING: (0.08, 0.08, 0.05),
    StreetClass.PAVEMENT: (0.06, 0.09, 0.06),
    StreetClass.TERRAIN: (0.15, 0.15, 0.14),
    StreetClass.BUILDING: (0.08, 0.06, 0.04),
    StreetClass.TREE: (0.12, 0.22, 0.16),
    StreetClass.SKY: (0.0, 0.0, 0.0),
    StreetClass.POLE: (0.05, 0.04, 0.04),
    StreetClass.SIGN: (0.03, 0.03, 0.02),
    StreetClass.CAR: (0.10, 0.03, 0.02),
    StreetClass.PEDESTRIAN: (0.06, 0.10, 0.05),
}

#: Classes on which the shadows of things outside the picture fall.
_SHADOWED = (StreetClass.ROAD, StreetClass.LANE_MARKING, StreetClass.PAVEMENT, StreetClass.TERRAIN, StreetClass.CAR)


def render(colour: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes a picture, [H, W, 3] uint8, from flat `colour` [H, W, 3] uint8 and `labels` [H, W] uint8."""
    size = labels.shape
    brightness = _texture(labels, rng)
    brightness *= _light(size, rng)
    if rng.random() < 0.6:
        brightness *= _shadows(labels, rng)
    picture = colour * brightness[..., None]
    picture += _clouds(labels, rng)[..., None]
    picture *= (rng.uniform(0.65, 1.15) * rng.normal(1.0, 0.05, 3)).astype(np.float32)
    picture += _noise_of(size, rng, rng.uniform(1.0, 6.0))[..., None]
    return np.clip(picture, 0.0, 255.0).astype(np.uint8)


def smooth_noise(size: tuple[int, int], rows: int, rng: np.random.Generator) -> np.ndarray:
    """Makes noise, [H, W] float32, of mean 0 and deviation 1, both about, with `rows` grains from top to bottom."""
    height, width = size
    rows = min(rows, height)
    columns = min(max(2, round(rows * width / height)), width)
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) * np.float32(1.3)


def _texture(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strengths = np.zeros((256, 3), np.float32)
    for street_class, values in _TEXTURE.items():
        strengths[street_class] = values
    size = labels.shape
    brightness = 1.0 + strengths[:, 0][labels] * smooth_noise(size, 12, rng)
    brightness += strengths[:, 1][labels] * smooth_noise(size, 90, rng)
    brightness += strengths[:, 2][labels] * _noise_of(size, rng, 1.0)
    return brightness


def _light(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Makes a brightness that grows towards one side and towards the top or the bottom."""
    height, width = size
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None] * np.float32(rng.uniform(-0.15, 0.15))
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :] * np.float32(rng.uniform(-0.2, 0.2))
    return 1.0 + down + across


def _shadows(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blobs = np.clip(4.0 * (smooth_noise(labels.shape, 7, rng) - np.float32(rng.uniform(0.0, 1.0))), 0.0, 1.0)
    falls = np.zeros(256, np.float32)
    falls[list(_SHADOWED)] = rng.uniform(0.3, 0.6)
    return 1.0 - falls[labels] * blobs


def _clouds(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness that clouds add to the sky, in grey levels; zero elsewhere."""
    size = labels.shape
    amount = np.clip(smooth_noise(size, 6, rng) + 0.5 * smooth_noise(size, 20, rng), -0.5, 2.0)
    return np.where(labels == StreetClass.SKY, amount * np.float32(rng.uniform(-10.0, 45.0)), np.float32(0.0))


def _noise_of(size: tuple[int, int], rng: np.random.Generator, deviation: float) -> np.ndarray:
    return rng.standard_normal(size, dtype=np.float32) * np.float32(deviation)
